"""Relations between samples and between classes, from multi-level logit distillation (MLLD)."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


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
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.batch_weight = self.add_variable(
            non_negative_number(batch_weight, "batch_weight"), "batch_weight"
        )
        self.class_weight = self.add_variable(
            non_negative_number(class_weight, "class_weight"), "class_weight"
        )

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        student = self._rows(student_logits, mask)
        teacher = self._rows(teacher_logits, mask)
        of_samples = _products(teacher) - _products(student)
        of_classes = _products(keras.ops.transpose(teacher)) - _products(
            keras.ops.transpose(student)
        )
        batch_part = keras.ops.sum(keras.ops.square(of_samples), axis=-1)
        class_part = keras.ops.sum(keras.ops.square(of_classes)) / student.shape[-1]
        values = self.batch_weight * batch_part + self.class_weight * class_part
        return keras.ops.reshape(values, keras.ops.shape(student_logits)[:-1])

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature),
            "batch_weight": serialize(self.batch_weight),
            "class_weight": serialize(self.class_weight),
            **super().get_config(),
        }

    def _rows(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Probabilities of all positions, one per row; zeros where masked."""
        probabilities = ops.temperature_softmax(logits, self.temperature)
        if mask is not None:
            probabilities = keras.ops.where(keras.ops.expand_dims(mask, -1), probabilities, 0.0)
        return keras.ops.reshape(probabilities, (-1, logits.shape[-1]))


def _products(rows: Tensor) -> Tensor:
    """Inner product of any two rows."""
    return keras.ops.matmul(rows, keras.ops.transpose(rows))
