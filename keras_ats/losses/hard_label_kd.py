"""Distillation of the teacher's decision alone."""

from typing import Unpack

import keras
from keras import ops

from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.labels import top_class_indicator
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class HardLabelKD(KDLoss):
    r"""Cross-entropy with the class that the teacher decides for, as if it were the label.

    Says nothing of the other classes, and has no temperature to choose. The teacher sees the same
    crop or augmentation as the student, so its decision fits the picture where the label may not.

    $$L = -\log \mathrm{softmax}(z)_t, \qquad t = \mathrm{argmax}_c f_c$$

    the first of equal ones; averaged over valid positions. The authors give it half the weight,
    the labels the other half: `compile(kd_weight=0.5)`. It needs no labels: for a loss that does,
    `pseudo_labels=True` lets the teacher's class stand in.

    Args:
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Example:

    ```python
    keras_ats.losses.HardLabelKD()(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))  # 0.313
    ```

    Reference: Touvron et al., "Training Data-Efficient Image Transformers & Distillation Through
    Attention" (DeiT), ICML 2021, arXiv 2012.12877.
    """

    def __init__(self, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        decision = top_class_indicator(lesson.teacher.logits)
        log_probabilities = temperature_log_softmax(lesson.student.logits)
        return -ops.sum(ops.where(decision, log_probabilities, 0.0), axis=-1)
