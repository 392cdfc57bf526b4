"""One temperature for all classes of all samples."""

from typing import Any

import keras
from keras import ops

from keras_ats import checks
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Constant(Temperature):
    r"""The same temperature $\tau$ everywhere, as in Hinton's distillation.

    Args:
        value: $\tau > 0$, dimensionless. Defaults to 4. Kept as a `keras.Variable`: a callback may
            call `temperature.value.assign(2.0)` on every backend.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If `value` is not finite and above 0.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(temperature=keras_ats.temperatures.Constant(4.0))
    ```

    Reference: Hinton, Vinyals, Dean, 2015, arXiv 1503.02531.
    """

    carries_gradient = False

    def __init__(self, value: float = 4.0) -> None:
        self.value = self.add_variable(value, "temperature", checks.temperature)

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the temperature, a scalar."""
        return ops.convert_to_tensor(self.value)


def as_temperature(value: Any, name: str = "temperature") -> Temperature:
    """Returns a temperature rule: `value` itself, or a `Constant` for a number.

    Args:
        value: What was given.
        name: Name of its argument. Defaults to `"temperature"`.
    """
    if isinstance(value, Temperature):
        return value
    if isinstance(value, type) and issubclass(value, Temperature):
        raise TypeError(
            f"`{name}` must be a rule, not its class. Received: {value.__name__}. "
            f"Call it: {value.__name__}(...)."
        )
    return Constant(checks.temperature(value, name))
