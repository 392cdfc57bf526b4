"""How often student and teacher choose the same classes."""

import math
from typing import Unpack

import keras
from keras import ops

from keras_ats.checks import as_integer
from keras_ats.metrics.pair_metric import PairMetric, PairOptions
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class TeacherAgreement(PairMetric):
    r"""Share of the teacher's $k$ likeliest classes that are among the student's $k$ likeliest.

    With $k = 1$: how often the two predict the same class, right or wrong. A student may be as
    accurate as its teacher and still agree with it little.

    Args:
        k: How many classes of each are compared, at least 1. Defaults to 1.
        **options: As for `LessonMetric`: `output`, `from_logits`, `name`.

    Raises:
        TypeError: If `k` is not an integer.
        ValueError: If it is below 1; with a batch, if it is above the number of classes.

    Example:

    ```python
    metric = keras_ats.metrics.TeacherAgreement()
    teacher_logits, student_logits = np.array([[3.0, 1.0]]), np.array([[1.0, 0.0]])
    metric.update_state(teacher_logits, student_logits)
    metric.result()  # 1.0
    ```
    """

    def __init__(self, k: int = 1, **options: Unpack[PairOptions]) -> None:
        self.k = as_integer(k, "k")
        super().__init__(**options)

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of arguments besides those of `LessonMetric`."""
        return ("k",)

    def values(self, lesson: Lesson) -> Tensor:
        """Returns the share of each position, shape `(...,)`."""
        student, teacher = lesson.student.logits, lesson.teacher.logits
        if self.k > student.shape[-1]:
            raise ValueError(
                f"`k` must be at most the number of classes, {student.shape[-1]}. Received: "
                f"k={self.k}."
            )
        chosen = [ops.top_k(logits, self.k)[1] for logits in (student, teacher)]
        same = ops.expand_dims(chosen[0], -1) == ops.expand_dims(chosen[1], -2)
        share = ops.sum(ops.cast(same, "float32"), axis=(-2, -1)) / self.k
        # Of NaN a place is found too, and two models that say nothing else would agree.
        said = ops.isnan(student) | ops.isnan(teacher)
        return ops.where(ops.any(said, axis=-1), math.nan, share)
