"""Distillation of sigmoid heads: multi-label problems, and yes-or-no ones."""

from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.divergences import bernoulli_kl_divergence
from keras_ats.ops.softmax import asymmetric_temperature
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class BernoulliKD(KDLoss):
    r"""Asymmetric temperatures for sigmoid units, where every class is a question of its own.

    Classes that do not exclude each other share no softmax: each has its own yes or no, and the
    label says which is true. A class that applies (label 1) gets the correct-class temperature, one
    that does not (label 0) the wrong-class temperature.

    $$L = \tau_S^2 \sum_c \Big[p_c \log \frac{p_c}{q_c} +
    (1 - p_c) \log \frac{1 - p_c}{1 - q_c}\Big], \quad
    p_c = \sigma(f_c / \tau_c), \quad \tau_c = y_c \, \tau_1 + (1 - y_c) \, \tau_2, \quad
    q = \sigma(z / \tau_S)$$

    summed over classes, averaged over valid positions. A higher $\tau_1$ takes confidence from the
    classes that are there; a lower $\tau_2$ keeps apart those that are nearly there and those that
    are far off. Three equal temperatures give plain distillation of each class, as `TemperatureKD`
    does for softmax. Both models must give the logits before the sigmoid; a single output unit
    is fine. A constant added to all logits changes every answer.

    Labels are rows of zeros and ones, one per class, shape `(..., C)`; values between count in
    part. With a single unit `(...,)` will do.

    Args:
        correct_temperature: $\tau_1 > 0$, dimensionless. Defaults to 4.
        wrong_temperature: $\tau_2 > 0$, dimensionless. Defaults to 2.
        student_temperature: $\tau_S > 0$, dimensionless. Defaults to 1, as for
            `AsymmetricTemperatureKD`.
        **options: As for `KDLoss`: `reduction`, `name`.

    Raises:
        TypeError: If a temperature is not a number.
        ValueError: If a temperature is not finite and above 0, or labels are class ids.

    Example:

    ```python
    loss = keras_ats.losses.BernoulliKD(4.0, 2.0)
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 3.0, -4.0]]), labels=[[1, 1, 0]])
    ```

    Reference: none. It carries Li et al., NeurIPS 2022, arXiv 2210.04427, over to sigmoid heads;
    there is no public code to agree with.
    """

    needs_labels = True
    min_classes = 1

    def __init__(
        self,
        correct_temperature: float = 4.0,
        wrong_temperature: float = 2.0,
        *,
        student_temperature: float = 1.0,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.correct_temperature = self.add_variable(
            correct_temperature, "correct_temperature", checks.temperature
        )
        self.wrong_temperature = self.add_variable(
            wrong_temperature, "wrong_temperature", checks.temperature
        )
        self.student_temperature = self.add_variable(
            student_temperature, "student_temperature", checks.temperature
        )

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        teacher_logits = lesson.teacher.logits
        labels = ops.cast(ops.convert_to_tensor(lesson.labels), "float32")
        if teacher_logits.shape[-1] == 1 and len(labels.shape) == len(teacher_logits.shape) - 1:
            labels = ops.expand_dims(labels, -1)
        _check_one_label_per_class(labels, teacher_logits)
        temperature = asymmetric_temperature(
            labels, teacher_logits, self.correct_temperature, self.wrong_temperature
        )
        student_temperature = self.student_temperature.value
        values = bernoulli_kl_divergence(
            teacher_logits / temperature, lesson.student.logits / student_temperature
        )
        return student_temperature**2 * values


def _check_one_label_per_class(labels: Tensor, logits: Tensor) -> None:
    label_shape, logit_shape = tuple(labels.shape), tuple(logits.shape)
    if len(label_shape) != len(logit_shape) or label_shape[-1] != logit_shape[-1]:
        raise ValueError(
            "Sigmoid units need a label for each class, 1 if it applies and 0 if not. Received: "
            f"labels of shape {label_shape} for logits of shape {logit_shape}. Expected: "
            f"{logit_shape}; turn class ids into rows with keras.ops.one_hot."
        )
