"""The base class of adjustments."""

from typing import Any

from keras_ats.configurable import Configurable
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.types import Tensor


class Adjustment(Configurable):
    """Decides what the teacher should have said, given the label.

    Subclass it, override one of the two methods, and pass an instance as `adjustment=` to any
    soft-target loss. Logits are adjusted before a temperature rule sees them, targets after.

    Example:

    ```python
    class RaiseLabel(keras_ats.adjustments.Adjustment):
        "Adds one to the label's logit."

        def adjust_logits(self, teacher_logits, labels):
            return teacher_logits + keras_ats.ops.label_distribution(labels, teacher_logits)

    loss = keras_ats.losses.TemperatureKD(4.0, adjustment=RaiseLabel())
    ```
    """

    def adjust_logits(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the logits that the teacher should have given; by default those it gave.

        Args:
            teacher_logits: float32 tensor of shape `(..., C)`, without gradient.
            labels: Ids or rows in any form of `ops.label_distribution`.

        Returns:
            float32 tensor of shape `(..., C)`.
        """
        return teacher_logits

    def adjust_targets(
        self, log_probabilities: Tensor, teacher_logits: Tensor, labels: Tensor
    ) -> Tensor:
        """Returns the soft targets that the student should get; by default those given.

        Args:
            log_probabilities: Log of the softened teacher, float32, shape `(..., C)`.
            teacher_logits: The logits that they come from, `(..., C)`.
            labels: Ids or rows in any form of `ops.label_distribution`.

        Returns:
            float32 tensor of log-probabilities, shape `(..., C)`.
        """
        return log_probabilities


def as_adjustment(value: Any) -> Adjustment | None:
    """Returns `value` if it is an adjustment or None, or raises."""
    if value is None or isinstance(value, Adjustment):
        return value
    raise TypeError(
        "`adjustment` must be an instance of keras_ats.adjustments.Adjustment or None. "
        f"Received: {value!r}."
    )


def adjusted_log_softmax(
    adjustment: Adjustment | None, teacher_logits: Tensor, labels: Tensor, temperature: Tensor
) -> Tensor:
    """Returns the teacher's log-targets at one temperature, adjusted before and after it."""
    if adjustment is None:
        return temperature_log_softmax(teacher_logits, temperature)
    teacher_logits = adjustment.adjust_logits(teacher_logits, labels)
    targets = temperature_log_softmax(teacher_logits, temperature)
    return adjustment.adjust_targets(targets, teacher_logits, labels)
