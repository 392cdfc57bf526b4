"""Relations between samples and between classes, from multi-level logit distillation (MLLD)."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.softmax import temperature_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor

# Where the size of the batch is not known: from how many classes on it is taken for the smaller.
_MANY_CLASSES = 256


@keras.saving.register_keras_serializable(package="keras_ats")
class RelationKD(KDLoss):
    r"""Matches how alike the teacher finds any two samples, and any two classes, of a batch.

    What a teacher knows about a sample also shows in which others it takes for similar. These are
    two of the three terms of multi-level logit distillation; the third is `TemperatureKD`.

    $$L = \frac{\alpha}{B} \lVert P P^\top - Q Q^\top \rVert_F^2 +
    \frac{\beta}{C} \lVert P^\top P - Q^\top Q \rVert_F^2$$

    with $P$ and $Q$, of shape $(B, C)$, the rows $\mathrm{softmax}(f / \tau)$ and
    $\mathrm{softmax}(z / \tau)$; no $\tau^2$. Both terms **depend on which samples share a
    batch**, and the second grows with its size: the share of one replica under `tf.distribute`
    gives another value. All leading axes count as samples, which takes memory of their number
    squared; masked positions count as if they were not there. Per position the first term is that
    of one row and the second the same for all, so that the mean is the formula above.

    Args:
        temperature: $\tau > 0$, dimensionless. Defaults to 4. The authors add up the losses at 2,
            3, 4, 5 and 6.
        batch_weight: $\alpha \ge 0$, weight of the relations between samples. Defaults to 1.
        class_weight: $\beta \ge 0$, weight of the relations between classes. Defaults to 1.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `temperature` is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.RelationKD(temperature=4.0)
    loss(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[9.0, 1.0], [2.0, 3.0]]))
    ```

    Reference: Jin, Wang, Lin, "Multi-level Logit Distillation", CVPR 2023; each term agrees with
    the authors' code, whose confidence masks and second view of the images are left out.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        batch_weight: float = 1.0,
        class_weight: float = 1.0,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.batch_weight = self.add_variable(
            batch_weight, "batch_weight", checks.non_negative_number
        )
        self.class_weight = self.add_variable(
            class_weight, "class_weight", checks.non_negative_number
        )
        self.adjustment = as_adjustment(adjustment)

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature, mask = self.temperature.value, lesson.student.mask
        student = _rows(temperature_softmax(lesson.student.logits, temperature), mask)
        teacher = _rows(ops.exp(self.soft_targets(lesson, temperature)), mask)
        of_samples = _products(teacher, teacher) - _products(student, student)
        batch_part = ops.sum(ops.square(of_samples), axis=-1)
        class_part = _class_distance(student, teacher) / student.shape[-1]
        values = self.batch_weight * batch_part + self.class_weight * class_part
        return ops.reshape(values, ops.shape(lesson.student.logits)[:-1])


def _rows(probabilities: Tensor, mask: Tensor | None) -> Tensor:
    """Probabilities of all positions, one per row; zeros where masked."""
    if mask is not None:
        probabilities = ops.where(ops.expand_dims(mask, -1), probabilities, 0.0)
    return ops.reshape(probabilities, (-1, probabilities.shape[-1]))


def _class_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""The squared distance of the relations between classes, by way of the smaller matrices.

    With $D = P - Q$ and $S = P + Q$, products of samples tell it too, and nothing cancels where the
    two agree:

    $$\lVert P^\top P - Q^\top Q \rVert^2 = \tfrac12 \textstyle\sum
    \big(D D^\top \circ S S^\top + D S^\top \circ S D^\top\big)$$
    """
    count, classes = student.shape
    if classes < (_MANY_CLASSES if count is None else count):
        student, teacher = ops.transpose(student), ops.transpose(teacher)
        return ops.sum(ops.square(_products(teacher, teacher) - _products(student, student)))
    difference, total = teacher - student, teacher + student
    mixed = _products(difference, total)
    squares = _products(difference, difference) * _products(total, total)
    return 0.5 * ops.sum(squares + mixed * ops.transpose(mixed))


def _products(rows: Tensor, others: Tensor) -> Tensor:
    """Inner product of any row of the one with any row of the other."""
    return ops.matmul(rows, ops.transpose(others))
