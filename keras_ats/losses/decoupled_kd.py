"""Decoupled Knowledge Distillation (DKD)."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.losses.row_by_row import row_by_row
from keras_ats.ops.class_groups import correct_wrong_log_softmax, wrong_class_log_softmax
from keras_ats.ops.divergences import kl_divergence
from keras_ats.record import Lesson
from keras_ats.types import Tensor


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
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

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
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.correct_weight = self.add_variable(
            correct_weight, "correct_weight", checks.non_negative_number
        )
        self.wrong_weight = self.add_variable(
            wrong_weight, "wrong_weight", checks.non_negative_number
        )
        self.adjustment = as_adjustment(adjustment)

    def bucket_temperatures(self) -> tuple[Tensor, Tensor] | None:
        """Returns the temperature, for teacher and student."""
        return None if self.adjustment is not None else (self.temperature, self.temperature)

    @row_by_row
    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature, labels = self.temperature.value, lesson.labels
        targets = self.soft_targets(lesson, temperature)
        correct_part = kl_divergence(
            correct_wrong_log_softmax(targets, labels),
            correct_wrong_log_softmax(lesson.student.logits, labels, temperature),
        )
        wrong_part = kl_divergence(
            wrong_class_log_softmax(targets, labels),
            wrong_class_log_softmax(lesson.student.logits, labels, temperature),
        )
        values = self.correct_weight * correct_part + self.wrong_weight * wrong_part
        return temperature**2 * values
