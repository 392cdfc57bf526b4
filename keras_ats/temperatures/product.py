"""Two temperature rules multiplied."""

import keras

from keras_ats.record import Lesson
from keras_ats.temperatures.constant import as_temperature
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Product(Temperature):
    """The product of two rules, such as ATS with both temperatures scaled per sample.

    Args:
        first: A temperature rule, or a number for `Constant`.
        second: Another one, typically around 1.

    Raises:
        TypeError: If one is neither a rule nor a number.

    Example:

    ```python
    from keras_ats.temperatures import Asymmetric, FocalWeighted, Product

    per_sample = FocalWeighted(temperature=1.0, bias=0.2, minimum=0.5)
    rule = Product(Asymmetric(4.0, 2.0), per_sample)
    loss = keras_ats.losses.SoftTargetKD(rule, student_temperature=1.0)
    ```
    """

    def __init__(self, first: float | Temperature, second: float | Temperature) -> None:
        self.first = as_temperature(first, "first")
        self.second = as_temperature(second, "second")
        self.needs_labels = self.first.needs_labels or self.second.needs_labels
        self.per_class = self.first.per_class or self.second.per_class

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the product of both rules' temperatures."""
        return self.first(lesson) * self.second(lesson)

    def of_student(self, lesson: Lesson) -> Tensor | None:
        """Returns the product for the student, where one of the rules has such."""
        own = [rule.of_student(lesson) for rule in (self.first, self.second)]
        if own[0] is None and own[1] is None:
            return None
        first, second = (
            rule(lesson) if one is None else one
            for rule, one in zip((self.first, self.second), own, strict=True)
        )
        return first * second
