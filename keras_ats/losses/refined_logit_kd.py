"""Refined Logit Distillation (RLD)."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class RefinedLogitKD(KDLoss):
    r"""Takes from a teacher how sure it is and how it ranks what it rightly puts below the label.

    A wrong teacher still knows much. Instead of swapping its logits, which breaks what it says of
    related classes, the student is to be as sure of the label as the teacher is of its own first
    choice, and learns the relations of those classes only that the teacher puts below the label.

    $$L = \alpha \tau_1^2 \; KL\big((p_m, 1 - p_m) \,\|\, (q_y, 1 - q_y)\big) +
    \beta \tau^2 \; KL(\hat p \,\|\, \hat q)$$

    with $p_m$ the teacher's largest probability and $q_y$ the student's of the label, both at
    $\tau_1$; $\hat p$ and $\hat q$ at $\tau$, over the classes with $f_c < f_y$ alone. Where the
    label is the teacher's last class, or the last but one, there is nothing to rank and the second
    part is 0. The authors add the whole to the cross-entropy:
    `compile(kd_weight=1.0, student_weight=1.0)`.

    This is for one correct class: a soft row (mixup, label smoothing) counts as its largest entry,
    the first of equal ones. A position with an ignored label (an id out of range) has loss 0.

    Args:
        temperature: $\tau > 0$, dimensionless, of the second part. Defaults to 4.
        correct_temperature: $\tau_1 > 0$, dimensionless, of the first part. Defaults to 1; the
            authors also try the same as `temperature`.
        correct_weight: $\alpha \ge 0$, weight of the first part. Defaults to 1.
        wrong_weight: $\beta \ge 0$, weight of the second part. Defaults to 8.
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a temperature is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.RefinedLogitKD()
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 9.0, 0.0]]), labels=[0])
    ```

    Reference: Sun et al., "Knowledge Distillation with Refined Logits", arXiv 2408.07703; agrees
    with the authors' code.
    """

    needs_labels = True

    def __init__(
        self,
        temperature: float = 4.0,
        correct_temperature: float = 1.0,
        correct_weight: float = 1.0,
        wrong_weight: float = 8.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.correct_temperature = self.add_variable(
            positive_number(correct_temperature, "correct_temperature"), "correct_temperature"
        )
        self.correct_weight = self.add_variable(
            non_negative_number(correct_weight, "correct_weight"), "correct_weight"
        )
        self.wrong_weight = self.add_variable(
            non_negative_number(wrong_weight, "wrong_weight"), "wrong_weight"
        )

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature, correct_temperature = self.temperature.value, self.correct_temperature.value
        label = ops.label_indicator(labels, teacher_logits)
        # Without a label there is no first choice to hold the student to either.
        labelled = keras.ops.any(label, axis=-1, keepdims=True)
        top = keras.ops.logical_and(ops.top_class_indicator(teacher_logits), labelled)
        correct_part = ops.kl_divergence(
            ops.correct_wrong_log_softmax(teacher_logits, top, correct_temperature),
            ops.correct_wrong_log_softmax(student_logits, label, correct_temperature),
        )
        label_logit = keras.ops.sum(
            keras.ops.where(label, teacher_logits, 0.0), axis=-1, keepdims=True
        )
        below = keras.ops.logical_and(teacher_logits < label_logit, labelled)
        wrong_part = ops.kl_divergence(
            ops.weighted_log_softmax(teacher_logits, below, temperature),
            ops.weighted_log_softmax(student_logits, below, temperature),
        )
        return (
            self.correct_weight * correct_temperature**2 * correct_part
            + self.wrong_weight * temperature**2 * wrong_part
        )

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature),
            "correct_temperature": serialize(self.correct_temperature),
            "correct_weight": serialize(self.correct_weight),
            "wrong_weight": serialize(self.wrong_weight),
            **super().get_config(),
        }
