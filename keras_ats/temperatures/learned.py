"""A temperature that learns to make the student's task harder (CTKD)."""

import keras
from keras import ops

from keras_ats import checks
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Learned(Temperature):
    r"""One temperature, trained with the student but against it.

    $$\tau = \tau_{min} + s \, \sigma(\theta), \qquad
    \theta \leftarrow \theta - \eta \, \lambda \, \partial L / \partial \theta$$

    With $\lambda < 0$ the temperature climbs the loss that the student descends;
    `callbacks.GradientReversalSchedule` brings $\lambda$ from 0 to -1 in the first epochs. The
    optimizer that trains the student trains $\theta$ too, weight decay included, as in the
    authors' code.

    Args:
        minimum: $\tau_{min} > 0$, dimensionless. Defaults to 1.
        span: $s > 0$; temperatures lie between `minimum` and `minimum + span`. Defaults to 20.
        raw_temperature: Initial $\theta$. Defaults to 1, which with the other defaults is a
            temperature of 15.6.
        gradient_factor: $\lambda$. Defaults to -1; kept as a `keras.Variable`.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If `minimum` or `span` is not above 0, or one is not finite.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(keras_ats.temperatures.Learned())
    ```

    Reference: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
    arXiv 2211.16231; agrees with the global form of the authors' code.
    """

    def __init__(
        self,
        minimum: float = 1.0,
        span: float = 20.0,
        *,
        raw_temperature: float = 1.0,
        gradient_factor: float = -1.0,
    ) -> None:
        self.minimum = checks.temperature(minimum, "minimum")
        self.span = checks.positive_number(span, "span")
        self.raw_temperature = self.add_variable(raw_temperature, "raw_temperature", trainable=True)
        self.gradient_factor = self.add_variable(gradient_factor, "gradient_factor")

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the temperature, a scalar whose gradient is scaled by `gradient_factor`."""
        raw = ops.convert_to_tensor(self.raw_temperature)
        factor = ops.convert_to_tensor(self.gradient_factor)
        # Equal to `raw` in value, and to `factor * raw` in gradient.
        reversed_raw = factor * raw + ops.stop_gradient((1.0 - factor) * raw)
        return self.minimum + self.span * ops.sigmoid(reversed_raw)
