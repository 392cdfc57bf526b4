"""How far confidence is from accuracy."""

from typing import Any, Unpack

import keras
from keras import ops

from keras_ats.checks import as_integer
from keras_ats.metrics.soft_target_metric import MetricOptions, SoftTargetMetric
from keras_ats.ops.labels import label_distribution, top_class_indicator
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ExpectedCalibrationError(SoftTargetMetric):
    r"""Expected calibration error of the top class, with bins of equal width.

    $$ECE = \sum_b \frac{n_b}{n} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|$$

    An over-confident teacher, sure far more often than it is right, has a large one. It depends on
    the bins: compare values of the same number of them only.

    Args:
        bins: Number of bins of $[0, 1]$, at least 1. Defaults to 15.
        temperature: A number above 0, or a rule of `keras_ats.temperatures`. Defaults to 1.
        **options: As for `LessonMetric`: `of`, `output`, `from_logits`, `ignore_label`, `name`.

    Raises:
        TypeError: If `bins` is not an integer.
        ValueError: If it is below 1.

    Example:

    ```python
    metric = keras_ats.metrics.ExpectedCalibrationError()
    metric.update_state([0, 1], np.array([[2.0, 0.0], [2.0, 0.0]]))
    metric.result()  # sure to 0.88, right by half: 0.38
    ```

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599.
    """

    def __init__(
        self,
        bins: int = 15,
        temperature: float | Temperature = 1.0,
        **options: Unpack[MetricOptions],
    ) -> None:
        self.bins = as_integer(bins, "bins")
        super().__init__(temperature, **options)

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of arguments besides those of `LessonMetric`."""
        return ("bins", "temperature")

    def make_state(self) -> None:
        """Makes the sums of each bin."""
        self.correct, self.confidence, self.count = (
            self.add_variable(shape=(self.bins,), initializer="zeros", name=name)
            for name in ("correct", "confidence", "count")
        )

    def values(self, lesson: Lesson) -> Any:
        """Returns confidence, and whether the top class is right, of each position."""
        targets = self.soft_targets(lesson)
        top = ops.cast(top_class_indicator(targets), "float32")
        right = ops.sum(top * label_distribution(lesson.labels, targets), axis=-1)
        return ops.max(targets, axis=-1), right

    def add(self, values: Any, weights: Tensor) -> None:
        """Adds a batch to the sums of each bin."""
        confidence, right, weights = (ops.reshape(one, (-1,)) for one in (*values, weights))
        # NaN, of a label out of range, must end up in some bin.
        place = ops.clip(ops.floor(confidence * self.bins), 0, self.bins - 1)
        place = ops.where(ops.isnan(confidence), 0.0, place)
        bins = ops.arange(self.bins, dtype="int32")
        is_there = ops.expand_dims(ops.cast(place, "int32"), -1) == bins
        for sums, each in (
            (self.correct, right * weights),
            (self.confidence, confidence * weights),
            (self.count, weights),
        ):
            in_bins = ops.where(is_there, ops.expand_dims(each, -1), 0.0)
            sums.assign_add(ops.cast(ops.sum(in_bins, axis=0), self.dtype))

    def result(self) -> Tensor:
        """Returns the error over all that was seen; 0 before that."""
        # The share n_b / n cancels the n_b of the means.
        gaps = ops.sum(ops.abs(self.correct - self.confidence))
        return ops.divide_no_nan(gaps, ops.sum(self.count))
