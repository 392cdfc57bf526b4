"""Refined Logit Distillation (RLD)."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_logit_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.losses.row_by_row import row_by_row
from keras_ats.ops.class_groups import chosen_log_softmax, correct_wrong_log_softmax
from keras_ats.ops.divergences import kl_divergence
from keras_ats.ops.labels import class_of_label
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class RefinedLogitKD(KDLoss):
    r"""Takes from a teacher how sure it is and how it ranks what it rightly puts below the label.

    A wrong teacher still knows much. Instead of swapping its logits, which breaks what it says of
    related classes, the student is to be as sure of the label as the teacher is of its own first
    choice, and learns the relations of those classes only that the teacher puts below the label.

    $$L = \alpha \tau_1^2 \; KL\big((p_m, 1 - p_m) \,\|\, (q_y, 1 - q_y)\big) +
    \beta \tau^2 \; KL(\hat p \,\|\, \hat q)$$

    with $p_m$ the teacher's largest probability and $q_y$ the student's of the label, both at
    $\tau_1$; $\hat p$ and $\hat q$ at $\tau$, over the classes with $f_c < f_y$ alone. Where the
    label is the teacher's last class, or the last but one, there is nothing to rank and the second
    part is 0. The authors add the whole to the cross-entropy:
    `compile(kd_weight=1.0, student_weight=1.0)`.

    This is for one correct class: a soft row (mixup, label smoothing) counts as its largest entry,
    the first of equal ones.

    Args:
        temperature: $\tau > 0$, dimensionless, of the second part. Defaults to 4.
        correct_temperature: $\tau_1 > 0$, dimensionless, of the first part. Defaults to 1; the
            authors also try the same as `temperature`.
        correct_weight: $\alpha \ge 0$, weight of the first part. Defaults to 1.
        wrong_weight: $\beta \ge 0$, weight of the second part. Defaults to 8.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a temperature is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.RefinedLogitKD()
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 9.0, 0.0]]), labels=[0])
    ```

    Reference: Sun et al., "Knowledge Distillation with Refined Logits", arXiv 2408.07703; agrees
    with the authors' code.
    """

    needs_labels = True

    def __init__(
        self,
        temperature: float = 4.0,
        correct_temperature: float = 1.0,
        correct_weight: float = 1.0,
        wrong_weight: float = 8.0,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.adjustment = as_logit_adjustment(adjustment, "RefinedLogitKD")
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.correct_temperature = self.add_variable(
            correct_temperature, "correct_temperature", checks.temperature
        )
        self.correct_weight = self.add_variable(
            correct_weight, "correct_weight", checks.non_negative_number
        )
        self.wrong_weight = self.add_variable(
            wrong_weight, "wrong_weight", checks.non_negative_number
        )

    @row_by_row
    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature, correct_temperature = self.temperature.value, self.correct_temperature.value
        student_logits, teacher_logits = lesson.student.logits, lesson.teacher.logits
        label = class_of_label(lesson.labels, teacher_logits)
        top = ops.cast(ops.argmax(teacher_logits, axis=-1, keepdims=True), "int32")
        # Without a label there is no first choice to hold the student to either.
        top = ops.where(label >= 0, top, -1)
        correct_part = kl_divergence(
            correct_wrong_log_softmax(teacher_logits, top, correct_temperature),
            correct_wrong_log_softmax(student_logits, label, correct_temperature),
        )
        label_logit = ops.take_along_axis(teacher_logits, ops.maximum(label, 0), axis=-1)
        below = ops.logical_and(teacher_logits < label_logit, label >= 0)
        wrong_part = kl_divergence(
            chosen_log_softmax(teacher_logits, below, temperature),
            chosen_log_softmax(student_logits, below, temperature),
        )
        return (
            self.correct_weight * correct_temperature**2 * correct_part
            + self.wrong_weight * temperature**2 * wrong_part
        )
