"""Variance of the wrong classes among themselves."""

import keras

from keras_ats.metrics.soft_target_metric import SoftTargetMetric
from keras_ats.ops.absent_classes import finite_logits
from keras_ats.ops.wrong_classes import inherent_variance
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class InherentVariance(SoftTargetMetric):
    r"""Inherent variance $v(\tilde q)$: the softmax over the wrong classes alone.

    The correct class has no part in it, so under ATS the wrong temperature alone moves it, and
    $v(q) = (C - 1)^2 e(q)^2 v(\tilde q)$ sample by sample.

    Args:
        temperature: A number above 0, or a rule of `keras_ats.temperatures`, such as
            `Asymmetric(4, 2)` or that of the loss. Defaults to 1.
        **options: As for `LessonMetric`: `of`, `output`, `from_logits`, `ignore_label`, `name`.

    Raises:
        TypeError: If `temperature` is neither a number nor a rule.
        ValueError: If it is not above 0.

    Example:

    ```python
    metric = keras_ats.metrics.InherentVariance(temperature=2.0)
    metric.update_state([0], np.array([[9.0, 1.0, 0.0]]))
    metric.result()  # 0.015
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """

    def values(self, lesson: Lesson) -> Tensor:
        r"""Returns $v(\tilde q)$ of each position, shape `(...,)`."""
        # Divided first: a rule may give each class a temperature of its own.
        softened = finite_logits(lesson.teacher.logits) / self.temperatures(lesson)
        return inherent_variance(softened, lesson.labels)
