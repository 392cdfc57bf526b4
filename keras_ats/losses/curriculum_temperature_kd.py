"""Distillation with a learned temperature that makes the task harder (CTKD)."""

from typing import Any

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.temperatures.learned import Learned
from keras_ats.types import Config


@keras.saving.register_keras_serializable(package="keras_ats")
class CurriculumTemperatureKD(SoftTargetKD):
    r"""Distillation at a temperature that is learned against the student.

    $$L = \tau^2 \; KL\big(\mathrm{softmax}(f / \tau) \,\|\, \mathrm{softmax}(z / \tau)\big)$$

    where $\tau$, its square included, carries a reversed gradient: see `temperatures.Learned`. Use
    it with `callbacks.GradientReversalSchedule`. The variable is trained and saved with the
    student, and is no part of the student's own file.

    Args:
        temperature: The learned temperature. Defaults to `temperatures.Learned()`.
        adjustment: A rule of `keras_ats.adjustments`, or None (default).
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Raises:
        TypeError: If `temperature` is not a `temperatures.Learned`.

    Example:

    ```python
    loss = keras_ats.losses.CurriculumTemperatureKD()
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))
    ```

    Reference: Li et al., AAAI 2023, arXiv 2211.16231; the authors' weights are 0.1 for the
    cross-entropy and 0.9 for this.
    """

    def __init__(
        self,
        temperature: Learned | None = None,
        *,
        adjustment: Adjustment | None = None,
        **kwargs: Any,
    ) -> None:
        rule = Learned() if temperature is None else temperature
        if not isinstance(rule, Learned):
            raise TypeError(
                "`temperature` must be a keras_ats.temperatures.Learned. Received: "
                f"{temperature!r}. For a fixed temperature use TemperatureKD."
            )
        super().__init__(rule, adjustment=adjustment, **kwargs)
        self.gradient_factor: keras.Variable = rule.gradient_factor

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature_rule),
            "adjustment": serialize(self.adjustment),
            **KDLoss.get_config(self),
        }
