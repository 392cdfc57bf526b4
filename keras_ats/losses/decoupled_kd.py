"""Decoupled Knowledge Distillation (DKD)."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.adjustments.adjustment import Adjustment, adjusted_log_softmax, as_adjustment
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class DecoupledKD(KDLoss):
    r"""Distillation in two parts with weights of their own: how sure, and which wrong classes.

    In plain distillation the second part counts as little as the teacher leaves to the wrong
    classes, $1 - p_y$: next to nothing when the teacher is sure. Here it has a fixed weight.

    $$L = \tau^2 \big[\alpha \; KL\big((p_y, 1 - p_y) \,\|\, (q_y, 1 - q_y)\big) +
    \beta \; KL(\hat p \,\|\, \hat q)\big]$$

    with $p = \mathrm{softmax}(f / \tau)$, $q = \mathrm{softmax}(z / \tau)$, and $\hat p$, $\hat q$
    the same over the wrong classes alone. What is called correct and wrong here is *target* and
    *non-target* in the paper; its TCKD and NCKD are the two parts. $\alpha = 1$ and
    $\beta = 1 - p_y$ would give back `TemperatureKD`. With two classes the second part is 0.

    The authors add the whole to the cross-entropy: `compile(kd_weight=1.0, student_weight=1.0)`.

    Args:
        temperature: $\tau > 0$, dimensionless. Defaults to 4; the authors use 1 on ImageNet.
        correct_weight: $\alpha \ge 0$, weight of the first part. Defaults to 1.
        wrong_weight: $\beta \ge 0$, weight of the second part. Defaults to 8; the authors use 2 to
            8 on CIFAR-100, and 0.5 on ImageNet.
        adjustment: A rule of `keras_ats.adjustments`, or None (default).
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `temperature` is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.DecoupledKD(4.0, correct_weight=1.0, wrong_weight=8.0)
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]), labels=[0])
    ```

    Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679; agrees
    with the authors' code, mdistiller.
    """

    needs_labels = True

    def __init__(
        self,
        temperature: float = 4.0,
        correct_weight: float = 1.0,
        wrong_weight: float = 8.0,
        *,
        adjustment: Adjustment | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.correct_weight = self.add_variable(
            non_negative_number(correct_weight, "correct_weight"), "correct_weight"
        )
        self.wrong_weight = self.add_variable(
            non_negative_number(wrong_weight, "wrong_weight"), "wrong_weight"
        )
        self.adjustment = as_adjustment(adjustment)

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature = self.temperature.value
        targets = adjusted_log_softmax(self.adjustment, teacher_logits, labels, temperature)
        correct_part = ops.kl_divergence(
            ops.correct_wrong_log_softmax(targets, labels),
            ops.correct_wrong_log_softmax(student_logits, labels, temperature),
        )
        wrong_part = ops.kl_divergence(
            ops.wrong_class_log_softmax(targets, labels),
            ops.wrong_class_log_softmax(student_logits, labels, temperature),
        )
        values = self.correct_weight * correct_part + self.wrong_weight * wrong_part
        return temperature**2 * values

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature),
            "correct_weight": serialize(self.correct_weight),
            "wrong_weight": serialize(self.wrong_weight),
            "adjustment": serialize(self.adjustment),
            **super().get_config(),
        }
