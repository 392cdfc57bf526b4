"""The base of metrics of what is taught: logits softened at a temperature."""

from typing import Any, TypedDict, Unpack

from keras import ops

from keras_ats import checks
from keras_ats.metrics.lesson_metric import LessonMetric
from keras_ats.ops.softmax import temperature_softmax
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature, temperatures_of
from keras_ats.types import Tensor


class MetricOptions(TypedDict, total=False):
    """What every metric takes besides its own arguments; see `LessonMetric`."""

    of: str
    output: str | None
    from_logits: bool
    ignore_label: int | None
    name: str | None
    dtype: Any


class SoftTargetMetric(LessonMetric):
    """Base of metrics that look at soft targets.

    Args:
        temperature: A number above 0, or a rule of `keras_ats.temperatures`, such as that of the
            loss. Defaults to 1, what the model itself says.
        **options: As for `LessonMetric`.
    """

    def __init__(
        self, temperature: float | Temperature = 1.0, **options: Unpack[MetricOptions]
    ) -> None:
        is_rule = isinstance(temperature, Temperature)
        # A number stays one: nobody changes it, and a variable would be the compiled step's.
        self._given = temperature if is_rule else checks.temperature(temperature, "temperature")
        super().__init__(**options)

    @property
    def temperature(self) -> Any:
        """The number or the rule."""
        return self._given

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of arguments besides those of `LessonMetric`."""
        return ("temperature",)

    def temperatures(self, lesson: Lesson) -> Tensor:
        """Returns the temperatures of a batch: a number, `(..., 1)` or `(..., C)`."""
        if isinstance(self._given, Temperature):
            return temperatures_of(self._given, lesson)
        return ops.cast(self._given, "float32")

    def soft_targets(self, lesson: Lesson) -> Tensor:
        """Returns the softened probabilities, float32, shape `(..., C)`."""
        return temperature_softmax(lesson.teacher.logits, self.temperatures(lesson))
