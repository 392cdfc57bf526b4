"""The curriculum of a learned temperature."""

import math

import keras

from keras_ats.callbacks.schedule import Schedule
from keras_ats.checks import as_integer


class GradientReversalSchedule(Schedule):
    r"""Turns the gradient of a learned temperature round, little by little.

    At first the temperature is left alone, so that the student's task is easy; then the
    temperature learns to make it harder. In epoch $e$, counted from 1,

    $$\lambda = -\tfrac{1}{2} (1 - \cos(\pi \min(e, E) / E))$$

    Args:
        epochs: $E \ge 1$, epochs until the gradient is fully reversed. Defaults to 10.
        gradient_factor: The variable to set; None (default) takes those of all learned
            temperatures within the distiller's losses.

    Raises:
        TypeError: If `epochs` is not an integer.
        ValueError: If `epochs` is below 1, or the loss has no learned temperature.

    Example:

    ```python
    schedule = keras_ats.callbacks.GradientReversalSchedule(epochs=10)
    ```

    Reference: Li et al., AAAI 2023, arXiv 2211.16231; agrees with the authors' cosine schedule.
    """

    def __init__(self, epochs: int = 10, gradient_factor: keras.Variable | None = None) -> None:
        self.epochs = as_integer(epochs, "epochs")
        if gradient_factor is not None and not isinstance(gradient_factor, keras.Variable):
            raise TypeError(
                "`gradient_factor` must be the variable of a learned temperature, or None. "
                f"Received: gradient_factor={gradient_factor!r}. Expected: rule.gradient_factor."
            )
        self.gradient_factor = gradient_factor
        super().__init__(
            "gradient_factor" if gradient_factor is None else gradient_factor,
            lambda epoch: self.factor(epoch + 1),
        )

    def factor(self, epoch: int) -> float:
        """Returns the gradient's factor for an epoch counted from 1."""
        progress = min(epoch, self.epochs) / self.epochs
        return -0.5 * (1.0 - math.cos(math.pi * progress))

    def targets(self) -> list[keras.Variable]:
        """Returns the variables that are set."""
        if self.gradient_factor is not None:
            return [self.gradient_factor]
        found = [one for one in self.model.variables if one.name == "gradient_factor"]
        if not found:
            kd_loss = getattr(self.model, "kd_loss", None)
            raise ValueError(
                "GradientReversalSchedule found no learned temperature. Received: "
                f"kd_loss={kd_loss!r}. Use CurriculumTemperatureKD, or pass the rule's "
                "variable: GradientReversalSchedule(gradient_factor=rule.gradient_factor)."
            )
        return found
