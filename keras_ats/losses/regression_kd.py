"""Distillation of values rather than of classes."""

from typing import Any, Literal, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class RegressionKD(KDLoss):
    r"""Distance between the values that student and teacher predict.

    For heads that predict quantities: a price, a pose, a depth map. There is no softmax, no
    temperature and no class.

    $$L = \frac{1}{C} \sum_c d(z_c - f_c), \quad d(x) = x^2, \; |x| \; \text{ or } \;
    \begin{cases} x^2 / 2 & |x| \le \delta \\ \delta |x| - \delta^2 / 2 & \text{else} \end{cases}$$

    averaged over the $C$ values of a position, and over valid positions. Values of different units
    need a common scale first, or a loss for each output.

    Args:
        difference: `"squared"` (default), `"absolute"`, which follows a teacher's outliers less, or
            `"huber"`, between the two.
        threshold: $\delta > 0$, in the unit of the values, where `"huber"` becomes linear. Defaults
            to 1.
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If `threshold` is not a number.
        ValueError: If `difference` is none of the three, or `threshold` is not above 0.

    Example:

    ```python
    loss = keras_ats.losses.RegressionKD("huber", threshold=1.0)
    loss(np.array([[1.0]]), np.array([[4.0]]))  # 2.5
    ```

    Reference: Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NeurIPS 2014, arXiv 1312.6184,
    with squares; Huber, "Robust Estimation of a Location Parameter", 1964.
    """

    min_classes = 1
    family = None

    def __init__(
        self,
        difference: Literal["squared", "absolute", "huber"] = "squared",
        *,
        threshold: float = 1.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.difference = checks.one_of(difference, "difference", ("squared", "absolute", "huber"))
        # A variable where it has an effect, so that what a callback may change is what counts.
        self.threshold: Any = (
            self.add_variable(threshold, "threshold", checks.positive_number)
            if self.difference == "huber"
            else checks.positive_number(threshold, "threshold")
        )

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        error = lesson.student.logits - lesson.teacher.logits
        return ops.mean(self._distance(error), axis=-1)

    def _distance(self, error: Tensor) -> Tensor:
        if self.difference == "squared":
            return ops.square(error)
        # As `ops.abs`, but with slope 0 where the two agree; JAX takes 1 there.
        size = error * ops.stop_gradient(ops.sign(error))
        if self.difference == "absolute":
            return size
        # What lies within the threshold counts by its square, the rest by its length.
        within = ops.minimum(size, self.threshold.value)
        return 0.5 * ops.square(within) + self.threshold.value * (size - within)
