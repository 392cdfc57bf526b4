"""Normalized Knowledge Distillation (NKD)."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.adjustments.adjustment import Adjustment, adjusted_log_softmax, as_adjustment
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class NormalizedKD(KDLoss):
    r"""A cross-entropy weighted by the teacher's trust in the label, and one of the wrong classes.

    Student and teacher leave different totals to the wrong classes, so matching these one by one
    can never succeed; each side is normalised to 1 over the wrong classes first.

    $$L = -\alpha \; p_y \log q_y \;-\;
    \gamma \lambda^2 \sum_{c \ne y} \hat p_c(\lambda) \log \hat q_c(\lambda)$$

    with $p = \mathrm{softmax}(f)$, $q = \mathrm{softmax}(z)$ at temperature 1, and
    $\hat p(\lambda)$, $\hat q(\lambda)$ the softmax over the wrong classes alone at temperature
    $\lambda$. Being a cross-entropy, it does not reach 0; with two classes the second part is 0.
    The authors add the whole to the cross-entropy: `compile(kd_weight=1.0, student_weight=1.0)`.

    This is for one correct class: a soft row (mixup, label smoothing) counts as its largest entry,
    the first of equal ones, as in the authors' code.

    Args:
        temperature: $\lambda > 0$, dimensionless, of the wrong classes only. Defaults to 1, as on
            ImageNet; the authors use 3 on CIFAR-100.
        correct_weight: $\alpha \ge 0$, weight of the first part. Defaults to 1, as in the paper.
        wrong_weight: $\gamma \ge 0$, weight of the second part. Defaults to 1.5, as on ImageNet;
            the authors use 3.5 on CIFAR-100.
        adjustment: A rule of `keras_ats.adjustments`, or None (default).
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `temperature` is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.NormalizedKD(temperature=3.0, wrong_weight=3.5)
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]), labels=[0])
    ```

    Reference: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation", ICCV 2023,
    arXiv 2303.13005; agrees with the authors' code, cls_KD.
    """

    needs_labels = True

    def __init__(
        self,
        temperature: float = 1.0,
        correct_weight: float = 1.0,
        wrong_weight: float = 1.5,
        *,
        adjustment: Adjustment | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.correct_weight = self.add_variable(
            non_negative_number(correct_weight, "correct_weight"), "correct_weight"
        )
        self.wrong_weight = self.add_variable(
            non_negative_number(wrong_weight, "wrong_weight"), "wrong_weight"
        )
        self.adjustment = as_adjustment(adjustment)

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature = self.temperature.value
        label = ops.label_indicator(labels, student_logits)
        trust = keras.ops.exp(adjusted_log_softmax(self.adjustment, teacher_logits, labels, 1.0))
        correct_part = -keras.ops.sum(
            keras.ops.where(label, trust * ops.temperature_log_softmax(student_logits), 0.0),
            axis=-1,
        )
        targets = adjusted_log_softmax(self.adjustment, teacher_logits, labels, temperature)
        wrong_part = ops.cross_entropy(
            ops.wrong_class_log_softmax(targets, label),
            ops.wrong_class_log_softmax(student_logits, label, temperature),
        )
        return self.correct_weight * correct_part + self.wrong_weight * temperature**2 * wrong_part

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature),
            "correct_weight": serialize(self.correct_weight),
            "wrong_weight": serialize(self.wrong_weight),
            "adjustment": serialize(self.adjustment),
            **super().get_config(),
        }
