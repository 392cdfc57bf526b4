"""Distillation with a learned temperature that makes the task harder (CTKD)."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.temperatures.learned import Learned


@keras.saving.register_keras_serializable(package="keras_ats")
class CurriculumTemperatureKD(SoftTargetKD):
    r"""Distillation at a temperature that is learned against the student.

    $$L = \tau^2 \; KL\big(\mathrm{softmax}(f / \tau) \,\|\, \mathrm{softmax}(z / \tau)\big)$$

    where $\tau$, its square included, carries a reversed gradient: see `temperatures.Learned`. Use
    it with `callbacks.GradientReversalSchedule`. The variable is trained and saved with the
    student, and is no part of the student's own file.

    Args:
        temperature: The learned temperature. Defaults to `temperatures.Learned()`.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

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
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        rule = Learned() if temperature is None else temperature
        if not isinstance(rule, Learned):
            raise TypeError(
                "`temperature` must be a keras_ats.temperatures.Learned. Received: "
                f"{temperature!r}. For a fixed temperature use TemperatureKD."
            )
        super().__init__(rule, adjustment=adjustment, **options)
        self.gradient_factor: keras.Variable = rule.gradient_factor
