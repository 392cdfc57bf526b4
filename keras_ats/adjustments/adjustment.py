"""The base class of adjustments."""

from keras_ats.configurable import Configurable
from keras_ats.types import Tensor


class Adjustment(Configurable):
    """Decides what the teacher should have said, given the label, before any temperature.

    Subclass it, implement `__call__`, and pass an instance as `adjustment=` to any soft-target
    loss.

    Example:

    ```python
    class RaiseLabel(keras_ats.adjustments.Adjustment):
        "Adds one to the label's logit."

        def __call__(self, teacher_logits, labels):
            return teacher_logits + keras_ats.ops.label_distribution(labels, teacher_logits)

    loss = keras_ats.losses.TemperatureKD(4.0, adjustment=RaiseLabel())
    ```
    """

    def __call__(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the adjusted logits.

        Args:
            teacher_logits: float32 tensor of shape `(..., C)`, without gradient.
            labels: Ids or rows in any form of `ops.label_distribution`.

        Returns:
            float32 tensor of shape `(..., C)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")
