"""What the two rules of Dynamic Temperature Distillation share."""

import keras

from keras_ats import ops
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Config, Tensor


class PerSample(Temperature):
    r"""Base of rules that soften a sample less, the more weight it has.

    $$\tau_x = \max\big(\tau_{min}, \; \tau_0 + \beta \, (\bar w - w_x)\big)$$

    with $\bar w$ the mean weight over the valid positions of the global batch, so that the mean
    temperature is $\tau_0$ unless the minimum intervenes. A subclass computes $w_x$ in `weights`.
    The temperature carries no gradient.

    Args:
        temperature: $\tau_0 > 0$, dimensionless.
        bias: $\beta \ge 0$, how far temperatures spread; the paper's beta.
        minimum: $\tau_{min} > 0$. The public implementations that have none reach temperatures of
            -501, which turns the loss around.
    """

    def __init__(self, temperature: float, bias: float, minimum: float) -> None:
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.bias = self.add_variable(non_negative_number(bias, "bias"), "bias")
        self.minimum = positive_number(minimum, "minimum")

    def weights(self, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """Returns the weight of each position, shape `(...,)`; larger means harder."""
        raise NotImplementedError(f"{type(self).__name__} must implement `weights`.")

    def __call__(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the temperature of each position, shape `(..., 1)`."""
        weights = self.weights(teacher_logits, keras.ops.stop_gradient(student_logits))
        spread = ops.batch_mean(weights, mask) - weights
        return keras.ops.expand_dims(
            keras.ops.maximum(self.temperature + self.bias * spread, self.minimum), axis=-1
        )

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values."""
        return {
            "temperature": serialize(self.temperature),
            "bias": serialize(self.bias),
            "minimum": self.minimum,
        }
