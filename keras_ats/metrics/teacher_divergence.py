"""How far the student is from the teacher."""

from typing import Unpack

import keras

from keras_ats import checks
from keras_ats.metrics.pair_metric import PairMetric, PairOptions
from keras_ats.ops.divergences import kl_divergence
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class TeacherDivergence(PairMetric):
    r"""Divergence $KL(p \| q)$ of the student's $q$ from the teacher's $p$, in nats.

    Unlike a loss it carries no $\tau^2$, so values at several temperatures can be told apart.

    Args:
        temperature: $\tau > 0$ of both sides. Defaults to 1.
        **options: As for `LessonMetric`: `output`, `from_logits`, `name`.

    Raises:
        TypeError: If `temperature` is not a number.
        ValueError: If it is not above 0.

    Example:

    ```python
    metric = keras_ats.metrics.TeacherDivergence(temperature=4.0)
    teacher_logits, student_logits = np.array([[3.0, 1.0]]), np.array([[1.0, 0.0]])
    metric.update_state(teacher_logits, student_logits)
    metric.result()
    ```
    """

    def __init__(self, temperature: float = 1.0, **options: Unpack[PairOptions]) -> None:
        self.temperature = checks.temperature(temperature, "temperature")
        super().__init__(**options)

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of arguments besides those of `LessonMetric`."""
        return ("temperature",)

    def values(self, lesson: Lesson) -> Tensor:
        """Returns the divergence of each position, shape `(...,)`."""
        teacher, student = (
            temperature_log_softmax(one.logits, self.temperature)
            for one in (lesson.teacher, lesson.student)
        )
        return kl_divergence(teacher, student)
