"""Asymmetric Temperature Scaling, the method this package is built around."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.temperatures.asymmetric import Asymmetric


@keras.saving.register_keras_serializable(package="keras_ats")
class AsymmetricTemperatureKD(SoftTargetKD):
    r"""Distillation with a higher teacher temperature on the correct class than on the others.

    A large teacher is over-confident: one temperature either leaves its wrong classes at zero or
    blurs them all alike. Two temperatures bring the correct class down and keep the wrong ones
    apart.

    $$L = -\tau_S^2 \sum_c p_c \log q_c, \quad
    p = \mathrm{softmax}(f_c / \tau_c), \quad
    \tau_c = \tau_1 \text{ if } c = y \text{ else } \tau_2, \quad
    q = \mathrm{softmax}(z / \tau_S)$$

    summed over classes, averaged over valid positions. With the defaults and `kd_weight=0.5` this
    is the objective of the authors' code; being a cross-entropy, it does not reach 0.

    Args:
        correct_temperature: $\tau_1 > 0$, dimensionless. Defaults to 4.
        wrong_temperature: $\tau_2 > 0$, dimensionless, meant to be the smaller one. Defaults to 2.
        student_temperature: $\tau_S > 0$, dimensionless. Defaults to 1, as in the authors' code.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If a temperature is not a number.
        ValueError: If a temperature is not finite and above 0.

    Example:

    ```python
    loss = keras_ats.losses.AsymmetricTemperatureKD(4, 2)
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]), labels=[0])
    ```

    Reference: Li et al., "Asymmetric Temperature Scaling Makes Larger Networks Teach Well Again",
    NeurIPS 2022, arXiv 2210.04427; agrees with the authors' released code.
    """

    def __init__(
        self,
        correct_temperature: float = 4.0,
        wrong_temperature: float = 2.0,
        *,
        student_temperature: float = 1.0,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        rule = Asymmetric(correct_temperature, wrong_temperature)
        super().__init__(
            rule,
            student_temperature=student_temperature,
            adjustment=adjustment,
            divergence="cross_entropy",
            **options,
        )
        self.correct_temperature: keras.Variable = rule.correct_temperature
        self.wrong_temperature: keras.Variable = rule.wrong_temperature
