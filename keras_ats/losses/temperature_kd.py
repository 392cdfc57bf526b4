"""Distillation with one temperature on both sides (Hinton)."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.temperatures.constant import Constant


@keras.saving.register_keras_serializable(package="keras_ats")
class TemperatureKD(SoftTargetKD):
    r"""Knowledge distillation at one temperature, the baseline of all others.

    $$L = \tau^2 \; KL\big(\mathrm{softmax}(f / \tau) \,\|\, \mathrm{softmax}(z / \tau)\big)$$

    summed over classes, averaged over valid positions; zero where student and teacher agree.

    Args:
        temperature: $\tau > 0$, dimensionless. Defaults to 4.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If `temperature` is not a number.
        ValueError: If `temperature` is not finite and above 0.

    Example:

    ```python
    loss = keras_ats.losses.TemperatureKD(4.0)
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))
    ```

    Reference: Hinton, Vinyals, Dean, 2015, arXiv 1503.02531.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        rule = Constant(temperature)
        super().__init__(rule, adjustment=adjustment, **options)
        self.temperature: keras.Variable = rule.value
