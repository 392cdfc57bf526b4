"""Two temperature rules multiplied."""

import keras

from keras_ats.configurable import serialize
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Product(Temperature):
    """The product of two rules, such as ATS with both temperatures scaled per sample.

    Args:
        first: A temperature rule.
        second: Another one, typically around 1.

    Example:

    ```python
    from keras_ats.temperatures import Asymmetric, FocalWeighted, Product

    per_sample = FocalWeighted(temperature=1.0, bias=0.2, minimum=0.5)
    rule = Product(Asymmetric(4.0, 2.0), per_sample)
    loss = keras_ats.losses.SoftTargetKD(rule, student_temperature=1.0)
    ```
    """

    def __init__(self, first: Temperature, second: Temperature) -> None:
        self.first = first
        self.second = second
        self.needs_labels = first.needs_labels or second.needs_labels
        self.per_class = first.per_class or second.per_class

    def __call__(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the product of both rules' temperatures."""
        arguments = (teacher_logits, student_logits, labels, mask)
        return self.first(*arguments) * self.second(*arguments)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"first": serialize(self.first), "second": serialize(self.second)}
