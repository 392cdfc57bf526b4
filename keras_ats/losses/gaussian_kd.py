"""Distillation of values with their uncertainty."""

from typing import Unpack

import keras
from keras import ops

from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class GaussianKD(KDLoss):
    r"""Divergence between normal distributions: what the teacher expects, and how sure it is.

    Where the teacher is unsure its mean need not be met closely, and the student learns to be
    unsure there too: what soft targets are to classes.

    $$L = \sum_i KL\big(\mathcal N(\mu^T_i, \sigma^{T2}_i) \,\|\, \mathcal N(\mu^S_i,
    \sigma^{S2}_i)\big) = \frac12 \sum_i \Big[\log \frac{\sigma^{S2}_i}{\sigma^{T2}_i} +
    \frac{\sigma^{T2}_i + (\mu^T_i - \mu^S_i)^2}{\sigma^{S2}_i} - 1\Big]$$

    summed over values, averaged over valid positions; zero where student and teacher agree. Both
    models give $2n$ numbers for $n$ values on the last axis: first the $n$ means, then the $n$
    natural logarithms of the variances, as `Concatenate()([mean, log_variance])` puts them.

    Args:
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        ValueError: When it is called, if the last axis is odd.

    Example:

    ```python
    mean_and_log_variance = np.array([[1.0, 0.0]])
    keras_ats.losses.GaussianKD()(mean_and_log_variance, np.array([[3.0, 0.0]]))  # 2.0
    ```

    Reference: none of its own; the divergence is in Kingma, Welling, "Auto-Encoding Variational
    Bayes", 2014, arXiv 1312.6114, appendix B, for a standard normal.
    """

    min_classes = 1
    family = None

    def __init__(self, **options: Unpack[LossOptions]) -> None:
        super().__init__(**options)

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        mean, log_variance = _halves(lesson.student.logits)
        teacher_mean, teacher_log_variance = _halves(lesson.teacher.logits)
        log_ratio = teacher_log_variance - log_variance
        squared = ops.square(teacher_mean - mean) * ops.exp(-log_variance)
        # `exp(x) - 1 - x` is nearly 0 where the variances are alike; `expm1` keeps its digits.
        return 0.5 * ops.sum(ops.expm1(log_ratio) - log_ratio + squared, axis=-1)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances, each of shape `(..., n)`."""
    if values.shape[-1] % 2:
        raise ValueError(
            "GaussianKD needs as many log variances as means on the last axis. Received: shape "
            f"{tuple(values.shape)}. Expected: an even size, n means and then n log variances."
        )
    count = values.shape[-1] // 2
    return values[..., :count], values[..., count:]
