"""Distillation of sigmoid heads: multi-label problems, and yes-or-no ones."""

from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.divergences import bernoulli_kl_divergence
from keras_ats.ops.label_range import invalid_rows
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
    does for softmax. Both models must give the logits before the sigmoid. A constant added to all
    logits changes every answer.

    A single unit is ATS over two classes whose logits are $(0, f)$, "no" and "yes": $\tau_1$ where
    the answer is yes, $\tau_2$ where it is no, up to the targets' entropy. To ATS a softmax over
    $(-f/2, f/2)$ is another teacher, though its probabilities are the same: both its answers are
    softened alike, by $2 \tau_1 \tau_2 / (\tau_1 + \tau_2)$, whatever the label.

    Labels are rows of zeros and ones, one per class, shape `(..., C)`; values between count in
    part. With a single unit `(...,)` will do. Labels outside [0, 1], such as -1 and +1 or 0 and
    255, make the loss NaN. `pseudo_labels` are 1 where the teacher's logit is above 0.

    Args:
        correct_temperature: $\tau_1 > 0$, dimensionless. Defaults to 4.
        wrong_temperature: $\tau_2 > 0$, dimensionless. Defaults to 2.
        student_temperature: $\tau_S > 0$, dimensionless. Defaults to 1, as for
            `AsymmetricTemperatureKD`.
        unknown_label: The label, such as -1, of a class of which nothing is known: it is left out
            of the sum. Defaults to None.
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

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
    family = "sigmoid"

    def __init__(
        self,
        correct_temperature: float = 4.0,
        wrong_temperature: float = 2.0,
        *,
        student_temperature: float = 1.0,
        unknown_label: float | None = None,
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
        self.unknown_label = (
            None if unknown_label is None else checks.finite_number(unknown_label, "unknown_label")
        )

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        student_logits, teacher_logits = lesson.student.logits, lesson.teacher.logits
        labels = _rows(lesson.labels, teacher_logits)
        if self.unknown_label is not None:
            known = labels != self.unknown_label
            # Equal logits have no divergence and no gradient.
            student_logits = ops.where(known, student_logits, 0.0)
            teacher_logits = ops.where(known, teacher_logits, 0.0)
        temperature = asymmetric_temperature(
            ops.clip(labels, 0.0, 1.0),
            teacher_logits,
            self.correct_temperature,
            self.wrong_temperature,
        )
        student_temperature = self.student_temperature.value
        values = bernoulli_kl_divergence(
            teacher_logits / temperature, student_logits / student_temperature
        )
        return student_temperature**2 * values

    def labels_of_teacher(self, teacher_logits: Tensor) -> Tensor:
        """Returns 1 for each class that the teacher finds more likely than not, `(..., C)`."""
        return ops.cast(teacher_logits > 0, "float32")

    def invalid_labels(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Returns where a label is outside [0, 1] and not the unknown one, shape `(...,)`."""
        labels = _rows(labels, logits)
        if self.unknown_label is not None:
            labels = ops.where(labels == self.unknown_label, 0.0, labels)
        return invalid_rows(labels)


def _rows(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels as float32 rows of shape `(..., C)`; raises if there is not one for each class."""
    labels = ops.cast(ops.convert_to_tensor(labels), "float32")
    if logits.shape[-1] == 1 and len(labels.shape) == len(logits.shape) - 1:
        labels = ops.expand_dims(labels, -1)
    label_shape, logit_shape = tuple(labels.shape), tuple(logits.shape)
    if len(label_shape) != len(logit_shape) or label_shape[-1] != logit_shape[-1]:
        raise ValueError(
            "Sigmoid units need a label for each class, 1 if it applies and 0 if not. Received: "
            f"labels of shape {label_shape} for logits of shape {logit_shape}. Expected: "
            f"{logit_shape}; turn class ids into rows with keras.ops.one_hot."
        )
    return labels
