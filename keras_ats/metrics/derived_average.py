"""Mean probability of the wrong classes."""

import keras

from keras_ats.metrics.soft_target_metric import SoftTargetMetric
from keras_ats.ops.wrong_classes import derived_average
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class DerivedAverage(SoftTargetMetric):
    r"""Derived average $e(q) = (1 - q_y) / (C - 1)$: how much is said of wrong classes at all.

    Close to 0, the soft targets repeat the label; close to $1 / C$, they say nothing.

    Args:
        temperature: A number above 0, or a rule of `keras_ats.temperatures`, such as
            `Asymmetric(4, 2)` or that of the loss. Defaults to 1.
        **options: As for `LessonMetric`: `of`, `output`, `from_logits`, `ignore_label`, `name`.

    Raises:
        TypeError: If `temperature` is neither a number nor a rule.
        ValueError: If it is not above 0.

    Example:

    ```python
    metric = keras_ats.metrics.DerivedAverage(temperature=4.0)
    metric.update_state([0], np.array([[9.0, 1.0, 0.0]]))
    metric.result()  # 0.11
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427, figure 7.
    """

    def values(self, lesson: Lesson) -> Tensor:
        """Returns $e(q)$ of each position, shape `(...,)`."""
        return derived_average(self.soft_targets(lesson), lesson.labels)
