"""Entropy of the soft targets."""

import keras

from keras_ats.metrics.soft_target_metric import SoftTargetMetric
from keras_ats.ops.divergences import cross_entropy
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class SoftTargetEntropy(SoftTargetMetric):
    r"""Entropy of the soft targets, $-\sum_c q_c \log q_c$ in nats.

    Close to 0 they are one-hot, close to $\log C$ uniform; either way nothing is taught that the
    label does not say.

    Args:
        temperature: A number above 0, or a rule of `keras_ats.temperatures`, such as
            `Asymmetric(4, 2)` or that of the loss. Defaults to 1.
        **options: As for `LessonMetric`: `of`, `output`, `from_logits`, `ignore_label`, `name`.

    Raises:
        TypeError: If `temperature` is neither a number nor a rule.
        ValueError: If it is not above 0.

    Example:

    ```python
    metric = keras_ats.metrics.SoftTargetEntropy(temperature=4.0)
    metric.update_state([0], np.array([[9.0, 1.0, 0.0]]))
    metric.result()  # 0.66
    ```
    """

    @property
    def needs_labels(self) -> bool:
        """Whether the temperature depends on the label."""
        return bool(getattr(self.temperature, "needs_labels", False))

    def values(self, lesson: Lesson) -> Tensor:
        """Returns the entropy of each position, shape `(...,)`."""
        log_targets = temperature_log_softmax(lesson.teacher.logits, self.temperatures(lesson))
        return cross_entropy(log_targets, log_targets)
