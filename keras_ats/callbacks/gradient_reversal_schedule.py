"""The curriculum of a learned temperature."""

import math

import keras

from keras_ats.types import Config


class GradientReversalSchedule(keras.callbacks.Callback):
    r"""Turns the gradient of a learned temperature round, little by little.

    At first the temperature is left alone, so that the student's task is easy; then the
    temperature learns to make it harder. In epoch $e$, counted from 1,

    $$\lambda = -\tfrac{1}{2} (1 - \cos(\pi \min(e, E) / E))$$

    Args:
        epochs: $E \ge 1$, epochs until the gradient is fully reversed. Defaults to 10.
        gradient_factor: The variable to set; None (default) takes that of the distiller's
            `kd_loss`.

    Raises:
        ValueError: If `epochs` is below 1, or the loss has no learned temperature.

    Example:

    ```python
    schedule = keras_ats.callbacks.GradientReversalSchedule(epochs=10)
    ```

    Reference: Li et al., AAAI 2023, arXiv 2211.16231; agrees with the authors' cosine schedule.
    """

    def __init__(self, epochs: int = 10, gradient_factor: keras.Variable | None = None) -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs!r}.")
        self.epochs = epochs
        self.gradient_factor = gradient_factor

    def factor(self, epoch: int) -> float:
        """Returns the gradient's factor for an epoch counted from 1."""
        progress = min(epoch, self.epochs) / self.epochs
        return -0.5 * (1.0 - math.cos(math.pi * progress))

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Sets the variable; called by Keras, which counts epochs from 0."""
        variable = self.gradient_factor
        if variable is None:
            variable = getattr(self.model.kd_loss, "gradient_factor", None)
        if variable is None:
            raise ValueError(
                "GradientReversalSchedule found no learned temperature. Received: "
                f"kd_loss={self.model.kd_loss!r}. Use CurriculumTemperatureKD, or pass the rule's "
                "variable: GradientReversalSchedule(gradient_factor=rule.gradient_factor)."
            )
        variable.assign(self.factor(epoch + 1))
