"""Label smoothing, the baseline that needs no teacher."""

from typing import Literal, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.absent_classes import present_classes
from keras_ats.ops.labels import label_distribution
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class LabelSmoothing(KDLoss):
    r"""Cross-entropy with smoothed labels; the teacher's logits are not looked at.

    Whatever a teacher adds must show against this: soft targets that tell no wrong class from
    another.

    $$L = -\sum_c p_c \log \mathrm{softmax}(z)_c$$

    with $p_c = (1 - \epsilon) \, y_c + \epsilon / C$ when spread over all classes, and
    $p_c = (1 - \epsilon) \, y_c + \epsilon \, (1 - y_c) / (C - 1)$ when over the wrong ones.
    Classes that the student does not have, whose logit is minus infinity, do not count and get
    no share.

    Args:
        smoothing: $\epsilon$ within [0, 1], the probability that is spread. Defaults to 0.1.
        spread: `"all"` (default), as in the original paper and Keras, or `"wrong"`.
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If `smoothing` is not a number.
        ValueError: If `smoothing` is not within [0, 1], or `spread` is neither.

    Example:

    ```python
    loss = keras_ats.losses.LabelSmoothing(0.1)
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]), labels=[0])
    ```

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
    2016, arXiv 1512.00567; `"all"` agrees with image_classification_sota, `"wrong"` with
    Teacher-free-Knowledge-Distillation.
    """

    needs_labels = True

    def __init__(
        self,
        smoothing: float = 0.1,
        spread: Literal["all", "wrong"] = "all",
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.smoothing = self.add_variable(smoothing, "smoothing", checks.fraction)
        self.spread = checks.one_of(spread, "spread", ("all", "wrong"))

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        student_logits = lesson.student.logits
        smoothing = self.smoothing.value
        label = label_distribution(lesson.labels, student_logits)
        present = ops.cast(present_classes(student_logits), "float32")
        if self.spread == "wrong":
            present *= 1.0 - label
        rest = present / ops.maximum(ops.sum(present, axis=-1, keepdims=True), 1e-7)
        targets = (1.0 - smoothing) * label + smoothing * rest
        return -ops.sum(targets * temperature_log_softmax(student_logits), axis=-1)
