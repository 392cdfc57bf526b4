"""The base class of adjustments."""

from keras_ats.configurable import Configurable
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.types import Tensor


class Adjustment(Configurable):
    """Decides what the teacher should have said, given the label.

    Subclass it, override one of the methods, and pass an instance as `adjustment=` to any
    soft-target loss. Logits are adjusted before a temperature rule sees them, targets after.

    Attributes:
        needs_labels: Whether it reads the labels. Defaults to True.
        min_classes: Fewest classes of which it leaves something to learn. Defaults to 2: a single
            logit has nothing to be exchanged with.

    Example:

    ```python
    class RaiseLabel(keras_ats.adjustments.Adjustment):
        "Adds one to the label's logit."

        def adjust_logits(self, teacher_logits, labels):
            return teacher_logits + keras_ats.ops.label_distribution(labels, teacher_logits)

    loss = keras_ats.losses.TemperatureKD(4.0, adjustment=RaiseLabel())
    ```
    """

    needs_labels: bool = True
    min_classes: int = 2

    def adjust_logits(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the logits that the teacher should have given; by default those it gave.

        Args:
            teacher_logits: float32 tensor of shape `(..., C)`, without gradient.
            labels: Ids or rows in any form of `ops.label_distribution`.

        Returns:
            float32 tensor of shape `(..., C)`.
        """
        return teacher_logits

    def adjust_student_logits(self, student_logits: Tensor) -> Tensor:
        """Returns the student's logits in the form that the teacher's are given in.

        Args:
            student_logits: float32 tensor of shape `(..., C)`.

        Returns:
            float32 tensor of shape `(..., C)`; by default those given.
        """
        return student_logits

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


def adjusted_log_softmax(
    adjustment: Adjustment | None, teacher_logits: Tensor, labels: Tensor, temperature: Tensor
) -> Tensor:
    """Returns the log-targets of adjusted logits at a temperature, adjusted in their turn."""
    targets = temperature_log_softmax(teacher_logits, temperature)
    if adjustment is None:
        return targets
    return adjustment.adjust_targets(targets, teacher_logits, labels)
