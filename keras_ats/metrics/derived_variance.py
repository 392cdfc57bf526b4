"""Variance of the wrong classes' probabilities."""

from typing import Unpack

import keras
from keras import ops

from keras_ats.checks import as_boolean
from keras_ats.metrics.soft_target_metric import MetricOptions, SoftTargetMetric
from keras_ats.ops.wrong_classes import derived_variance
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class DerivedVariance(SoftTargetMetric):
    r"""Derived variance $v(q)$: how far apart the wrong classes' probabilities lie.

    It is what a student can learn of what resembles what, and what a large teacher under one
    temperature has too little of.

    Args:
        temperature: A number above 0, or a rule of `keras_ats.temperatures`, such as
            `Asymmetric(4, 2)` or that of the loss. Defaults to 1.
        deviation: Whether each sample's square root is averaged instead, $\sigma(q)$, as the
            paper's figures show. Defaults to False.
        **options: As for `LessonMetric`: `of`, `output`, `from_logits`, `ignore_label`, `name`.

    Raises:
        TypeError: If `temperature` is neither a number nor a rule.
        ValueError: If it is not above 0.

    Example:

    ```python
    metric = keras_ats.metrics.DerivedVariance(keras_ats.temperatures.Asymmetric(4, 2))
    metric.update_state([0], np.array([[9.0, 1.0, 0.0]]))
    metric.result()
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427, figure 7.
    """

    def __init__(
        self,
        temperature: float | Temperature = 1.0,
        deviation: bool = False,
        **options: Unpack[MetricOptions],
    ) -> None:
        self.deviation = as_boolean(deviation, "deviation")
        super().__init__(temperature, **options)

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of arguments besides those of `LessonMetric`."""
        return ("temperature", "deviation")

    def values(self, lesson: Lesson) -> Tensor:
        """Returns $v(q)$ of each position, or its root, shape `(...,)`."""
        variance = derived_variance(self.soft_targets(lesson), lesson.labels)
        return ops.sqrt(variance) if self.deviation else variance
