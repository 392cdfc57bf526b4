"""Label smoothing, the baseline that needs no teacher."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.checks import fraction, one_of
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class LabelSmoothing(KDLoss):
    r"""Cross-entropy with smoothed labels; the teacher's logits are not looked at.

    Whatever a teacher adds must show against this: soft targets that tell no wrong class from
    another.

    $$L = -\sum_c p_c \log \mathrm{softmax}(z)_c$$

    with $p_c = (1 - \epsilon) \, y_c + \epsilon / C$ when spread over all classes, and
    $p_c = (1 - \epsilon) \, y_c + \epsilon \, (1 - y_c) / (C - 1)$ when over the wrong ones.

    Args:
        smoothing: $\epsilon$ within [0, 1], the probability that is spread. Defaults to 0.1.
        spread: `"all"` (default), as in the original paper and Keras, or `"wrong"`.
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

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

    def __init__(self, smoothing: float = 0.1, spread: str = "all", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smoothing = self.add_variable(fraction(smoothing, "smoothing"), "smoothing")
        self.spread = one_of(spread, "spread", ("all", "wrong"))

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        smoothing, num_classes = self.smoothing.value, student_logits.shape[-1]
        label = ops.label_distribution(labels, student_logits)
        rest = 1.0 / num_classes if self.spread == "all" else (1.0 - label) / (num_classes - 1)
        targets = (1.0 - smoothing) * label + smoothing * rest
        return -keras.ops.sum(targets * ops.temperature_log_softmax(student_logits), axis=-1)

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present value of the smoothing."""
        return {
            "smoothing": serialize(self.smoothing),
            "spread": self.spread,
            **super().get_config(),
        }
