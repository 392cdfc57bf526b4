"""What the two rules of Dynamic Temperature Distillation share."""

from keras import ops

from keras_ats import checks
from keras_ats.record import Lesson
from keras_ats.temperatures.batch import batch_mean
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


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

    carries_gradient = False

    def __init__(self, temperature: float, bias: float, minimum: float) -> None:
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.bias = self.add_variable(bias, "bias", checks.non_negative_number)
        self.minimum = checks.temperature(minimum, "minimum")

    def weights(self, lesson: Lesson) -> Tensor:
        """Returns the weight of each position, shape `(...,)`; larger means harder."""
        raise NotImplementedError(f"{type(self).__name__} must implement `weights`.")

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the temperature of each position, shape `(..., 1)`."""
        student = lesson.student._replace(logits=ops.stop_gradient(lesson.student.logits))
        weights = self.weights(lesson._replace(student=student))
        spread = batch_mean(weights, student.mask) - weights
        return ops.expand_dims(
            ops.maximum(self.temperature + self.bias * spread, self.minimum), axis=-1
        )
