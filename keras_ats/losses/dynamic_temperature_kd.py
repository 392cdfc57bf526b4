"""Dynamic Temperature Distillation."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.temperatures.focal_weighted import FocalWeighted
from keras_ats.temperatures.temperature import Temperature


@keras.saving.register_keras_serializable(package="keras_ats")
class DynamicTemperatureKD(SoftTargetKD):
    r"""Distillation with a temperature of its own for each sample, the same on both sides.

    Samples that need attention are softened less, so that their targets are more decided.

    $$L = -\sum_c p_c(\tau_x) \log q_c(\tau_x)$$

    The rule that gives $\tau_x$ says what needs attention: `temperatures.FocalWeighted` (FLSW, the
    disagreement of student and teacher) or `temperatures.ConfidenceWeighted` (CWSM, the student's
    doubt).

    Args:
        temperature: A per-sample rule of `keras_ats.temperatures`. Defaults to `FocalWeighted()`.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
            The paper pairs DTD with `Swap`.
        scale_by_squared_temperature: Whether each sample's loss carries $\tau_x^2$. Defaults to
            False, as in the public implementations checked.
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Example:

    ```python
    loss = keras_ats.losses.DynamicTemperatureKD(
        keras_ats.temperatures.ConfidenceWeighted(4.0, bias=0.1),
        adjustment=keras_ats.adjustments.Swap(),
    )
    ```

    Reference: Wen, Lai, Qian, Neurocomputing 454, 2021, arXiv 1911.07471; agrees with TextBrewer.
    """

    def __init__(
        self,
        temperature: Temperature | None = None,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        scale_by_squared_temperature: bool = False,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(
            FocalWeighted() if temperature is None else temperature,
            adjustment=adjustment,
            divergence="cross_entropy",
            scale_by_squared_temperature=scale_by_squared_temperature,
            **options,
        )
