"""Normalized Knowledge Distillation (NKD)."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.losses.row_by_row import row_by_row
from keras_ats.ops.class_groups import wrong_class_log_softmax
from keras_ats.ops.divergences import cross_entropy
from keras_ats.ops.labels import class_of_label
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class NormalizedKD(KDLoss):
    r"""A cross-entropy weighted by the teacher's trust in the label, and one of the wrong classes.

    Student and teacher leave different totals to the wrong classes, so matching these one by one
    can never succeed; each side is normalised to 1 over the wrong classes first.

    $$L = -\alpha \; p_y \log q_y \;-\;
    \gamma \lambda^2 \sum_{c \ne y} \hat p_c(\lambda) \log \hat q_c(\lambda)$$

    with $p = \mathrm{softmax}(f)$, $q = \mathrm{softmax}(z)$ at temperature 1, and
    $\hat p(\lambda)$, $\hat q(\lambda)$ the softmax over the wrong classes alone at temperature
    $\lambda$. Being a cross-entropy, it does not reach 0; with two classes the second part is 0.
    The authors add the whole to the cross-entropy: `compile(kd_weight=1.0, student_weight=1.0)`.

    This is for one correct class: a soft row (mixup, label smoothing) counts as its largest entry,
    the first of equal ones, as in the authors' code.

    Args:
        temperature: $\lambda > 0$, dimensionless, of the wrong classes only. Defaults to 1, as on
            ImageNet; the authors use 3 on CIFAR-100.
        correct_weight: $\alpha \ge 0$, weight of the first part. Defaults to 1, as in the paper.
        wrong_weight: $\gamma \ge 0$, weight of the second part. Defaults to 1.5, as on ImageNet;
            the authors use 3.5 on CIFAR-100.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `temperature` is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.NormalizedKD(temperature=3.0, wrong_weight=3.5)
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]), labels=[0])
    ```

    Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation", ICCV 2023,
    arXiv 2303.13005; agrees with the authors' code, cls_KD.
    """

    needs_labels = True

    def __init__(
        self,
        temperature: float = 1.0,
        correct_weight: float = 1.0,
        wrong_weight: float = 1.5,
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

    @row_by_row
    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature, student_logits = self.temperature.value, lesson.student.logits
        label = class_of_label(lesson.labels, student_logits)
        trust, answer = (
            ops.take_along_axis(one, ops.maximum(label, 0), axis=-1)
            for one in (self.soft_targets(lesson, 1.0), temperature_log_softmax(student_logits))
        )
        correct_part = -ops.squeeze(ops.where(label >= 0, ops.exp(trust) * answer, 0.0), axis=-1)
        targets = self.soft_targets(lesson, temperature)
        wrong_part = cross_entropy(
            wrong_class_log_softmax(targets, label),
            wrong_class_log_softmax(student_logits, label, temperature),
        )
        return self.correct_weight * correct_part + self.wrong_weight * temperature**2 * wrong_part
