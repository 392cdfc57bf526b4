"""The engine: soft targets from adjusted, softened teacher logits, compared with the student."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.adjustments.adjustment import Adjustment, as_adjustment
from keras_ats.checks import one_of, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.temperatures.constant import as_temperature
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Config, Tensor

_DIVERGENCES = {
    "kl": ops.kl_divergence,
    "cross_entropy": ops.cross_entropy,
    "reverse_kl": ops.reverse_kl_divergence,
}


@keras.saving.register_keras_serializable(package="keras_ats")
class SoftTargetKD(KDLoss):
    r"""Distillation to soft targets, assembled from parts.

    Nearly every soft-target method is these steps with other parts, so parts combine freely:

    $$L = \tau_S^2 \; D\big(\mathrm{softmax}(a(f, y) / \tau(\cdot)),\;
    \mathrm{softmax}(z / \tau_S)\big)$$

    for teacher logits $f$, student logits $z$, labels $y$, adjustment $a$, temperature rule
    $\tau$, student temperature $\tau_S$ and divergence $D$; summed over classes, averaged over
    valid positions.

    Args:
        temperature: How the teacher is softened: a number or a rule of `keras_ats.temperatures`.
            Defaults to 4.
        student_temperature: $\tau_S > 0$, dimensionless; None (default) uses the teacher's
            temperature, which a rule with one temperature per class cannot offer.
        adjustment: A rule of `keras_ats.adjustments` applied to the teacher's logits before any
            temperature. Defaults to None.
        divergence: `"kl"` (default), `"cross_entropy"` or `"reverse_kl"`.
        scale_by_squared_temperature: Whether the loss carries $\tau_S^2$, which keeps gradients of
            the same size at every temperature. Defaults to True.
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Raises:
        TypeError: If a part is of the wrong type.
        ValueError: If a temperature is not above 0, or the student has none to use.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(
        temperature=keras_ats.temperatures.Asymmetric(4.0, 2.0),
        student_temperature=1.0,
        divergence="cross_entropy",
    )
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]), labels=[0])
    ```

    Reference: Hinton, Vinyals, Dean, 2015, arXiv 1503.02531, and the parts' own papers.
    """

    def __init__(
        self,
        temperature: float | Temperature = 4.0,
        *,
        student_temperature: float | None = None,
        adjustment: Adjustment | None = None,
        divergence: str = "kl",
        scale_by_squared_temperature: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature_rule = as_temperature(temperature)
        if student_temperature is None and self.temperature_rule.per_class:
            raise ValueError(
                f"{type(self.temperature_rule).__name__} gives each class its own temperature; the "
                "student needs a single one. Received: student_temperature=None. Pass "
                "student_temperature=1.0, as the ATS authors do."
            )
        self.student_temperature = (
            None
            if student_temperature is None
            else self.add_variable(
                positive_number(student_temperature, "student_temperature"), "student_temperature"
            )
        )
        self.adjustment = as_adjustment(adjustment)
        self.divergence = one_of(divergence, "divergence", tuple(_DIVERGENCES))
        self.scale_by_squared_temperature = scale_by_squared_temperature
        self.needs_labels = self.temperature_rule.needs_labels or adjustment is not None

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        if self.adjustment is not None:
            teacher_logits = self.adjustment.adjust_logits(teacher_logits, labels)
        temperature = self.temperature_rule(teacher_logits, student_logits, labels, mask)
        student_temperature = (
            temperature if self.student_temperature is None else self.student_temperature.value
        )
        targets = ops.temperature_log_softmax(teacher_logits, temperature)
        if self.adjustment is not None:
            targets = self.adjustment.adjust_targets(targets, teacher_logits, labels)
        values = _DIVERGENCES[self.divergence](
            targets, ops.temperature_log_softmax(student_logits, student_temperature)
        )
        if self.scale_by_squared_temperature:
            values *= _per_position(student_temperature) ** 2
        return values

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature_rule),
            "student_temperature": serialize(self.student_temperature),
            "adjustment": serialize(self.adjustment),
            "divergence": self.divergence,
            "scale_by_squared_temperature": self.scale_by_squared_temperature,
            **super().get_config(),
        }


def _per_position(temperature: Tensor) -> Tensor:
    """Drops the class axis of a per-sample temperature `(..., 1)`; a scalar stays as it is."""
    return temperature if len(temperature.shape) == 0 else keras.ops.squeeze(temperature, axis=-1)
