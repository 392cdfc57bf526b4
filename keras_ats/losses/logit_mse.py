"""Mean squared difference of logits."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_logit_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.absent_classes import present_classes
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class LogitMSE(KDLoss):
    r"""Mean squared difference of student's and teacher's logits: no softmax, no temperature.

    What `TemperatureKD` tends to as the temperature grows, up to a factor, but that it also asks
    the student for the mean of the teacher's logits.

    $$L = \frac{1}{C} \sum_c (z_c - f_c)^2$$

    averaged over classes too, unlike the other losses here. It **depends on a constant added to
    the logits** of either side, which no softmax would notice: feed it logits, not
    log-probabilities, or take that freedom away with
    `adjustment=keras_ats.adjustments.Standardize()`. Classes that one of the two does not have,
    whose logit is minus infinity, are left out.

    Args:
        adjustment: A rule of `keras_ats.adjustments` for logits, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Example:

    ```python
    keras_ats.losses.LogitMSE()(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))  # 2.0
    ```

    Reference: Kim et al., "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in
    Knowledge Distillation", IJCAI 2021, arXiv 2105.08919; agrees with the authors' code, kd_data.
    """

    min_classes = 1
    family = None

    def __init__(
        self,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.adjustment = as_logit_adjustment(adjustment, "LogitMSE")

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        student, teacher = lesson.student.logits, lesson.teacher.logits
        present = ops.logical_and(present_classes(student), present_classes(teacher))
        difference = ops.where(present, student - teacher, 0.0)
        count = ops.sum(ops.cast(present, "float32"), axis=-1)
        return ops.sum(ops.square(difference), axis=-1) / ops.maximum(count, 1.0)
