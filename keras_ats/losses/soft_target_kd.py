"""The engine: soft targets from adjusted, softened teacher logits, compared with the student."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats._gradients import is_worth_own_gradient
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.divergences import (
    cross_entropy,
    jensen_shannon_divergence,
    kl_divergence,
    reverse_kl_divergence,
)
from keras_ats.ops.soft_target_rows import LEAN_DIVERGENCES, soft_target_divergence
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.temperatures.asymmetric import Asymmetric
from keras_ats.temperatures.constant import Constant, as_temperature
from keras_ats.temperatures.temperature import Temperature, has_gradient, temperatures_of
from keras_ats.types import Tensor

_DIVERGENCES = {
    "kl": kl_divergence,
    "cross_entropy": cross_entropy,
    "reverse_kl": reverse_kl_divergence,
    "jensen_shannon": jensen_shannon_divergence,
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
            temperature, which a rule with one temperature per class cannot offer, or what a rule
            such as `StandardDeviation` has for the student; the factor is the teacher's then.
        adjustment: A rule of `keras_ats.adjustments` applied to the teacher's logits before any
            temperature. Defaults to None.
        divergence: `"kl"` (default), `"cross_entropy"`, `"reverse_kl"` or `"jensen_shannon"`; with
            its weight that is `JensenShannonKD`.
        scale_by_squared_temperature: Whether the loss carries $\tau_S^2$, which keeps gradients of
            the same size at every temperature. Defaults to True.
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

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
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        divergence: Literal["kl", "cross_entropy", "reverse_kl", "jensen_shannon"] = "kl",
        scale_by_squared_temperature: bool = True,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature_rule = as_temperature(temperature)
        self.temperature: Any = self.temperature_rule
        if student_temperature is None and self.temperature_rule.per_class:
            raise ValueError(
                f"{type(self.temperature_rule).__name__} gives each class its own temperature; the "
                "student needs a single one. Received: student_temperature=None. Pass "
                "student_temperature=1.0, as the ATS authors do."
            )
        self.student_temperature = (
            None
            if student_temperature is None
            else self.add_variable(student_temperature, "student_temperature", checks.temperature)
        )
        self.adjustment = as_adjustment(adjustment)
        self.divergence = checks.one_of(divergence, "divergence", tuple(_DIVERGENCES))
        self.scale_by_squared_temperature = checks.as_boolean(
            scale_by_squared_temperature, "scale_by_squared_temperature"
        )
        self.needs_labels = self.temperature_rule.needs_labels

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        if self._is_ordinary and is_worth_own_gradient(lesson.student.logits):
            return self._lean_values(lesson)
        temperature = temperatures_of(self.temperature_rule, lesson)
        # How much a sample counts: the student's, unless it has one of the rule's own.
        scale = student_temperature = temperature
        own = self.temperature_rule.of_student(lesson)
        if self.student_temperature is not None:
            scale = student_temperature = self.student_temperature.value
        elif own is not None:
            student_temperature = own
        values = self.distance(
            self.soft_targets(lesson, temperature),
            temperature_log_softmax(lesson.student.logits, student_temperature),
        )
        if self.scale_by_squared_temperature:
            values *= _per_position(scale) ** 2
        return values

    def bucket_temperatures(self) -> tuple[Tensor, Tensor] | None:
        """Returns the temperatures of wrong classes, where each has the same one."""
        rule = self.temperature_rule
        if self.adjustment is not None:
            return None
        # Not of a subclass, which may say something else.
        if type(rule) is Constant:
            teacher = rule.value
        elif type(rule) is Asymmetric:
            teacher = rule.wrong_temperature
        else:
            return None
        return teacher, teacher if self.student_temperature is None else self.student_temperature

    def _lean_values(self, lesson: Lesson) -> Tensor:
        """The same values, at the cost of a cross-entropy."""
        temperature, correct_temperature = self.temperature_rule.by_label(lesson)
        own = self.student_temperature
        student_temperature = temperature if own is None else own.value
        return soft_target_divergence(
            self.divergence,
            lesson.student.logits,
            lesson.teacher.logits,
            temperature,
            student_temperature,
            student_temperature**2 if self.scale_by_squared_temperature else ops.ones(()),
            correct_temperature=correct_temperature,
            labels=lesson.labels,
        )

    @property
    def _is_ordinary(self) -> bool:
        """Whether the loss is a divergence from a softmax, with no gradient but the student's."""
        own, adjustment, rule = type(self), self.adjustment, self.temperature_rule
        return (
            self.divergence in LEAN_DIVERGENCES
            and own.distance is SoftTargetKD.distance
            and own.soft_targets is KDLoss.soft_targets
            and (adjustment is None or type(adjustment).adjust_targets is Adjustment.adjust_targets)
            and type(rule).of_student is Temperature.of_student
            and not has_gradient(rule)
            and (self.student_temperature is None or not self.student_temperature.trainable)
        )

    def distance(self, targets: Tensor, log_probabilities: Tensor) -> Tensor:
        """Returns how far the student is from its targets, shape `(...,)`.

        Args:
            targets: Log of the soft targets, `(..., C)`.
            log_probabilities: Log of the softened student, `(..., C)`.
        """
        return _DIVERGENCES[self.divergence](targets, log_probabilities)


def _per_position(temperature: Tensor) -> Tensor:
    """Drops the class axis of a per-sample temperature `(..., 1)`; a scalar stays as it is."""
    return temperature if len(temperature.shape) == 0 else ops.squeeze(temperature, axis=-1)
