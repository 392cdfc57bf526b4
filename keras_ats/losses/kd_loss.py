"""The base class of distillation losses: all that is not arithmetic, once."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ats import checks
from keras_ats._keras import get_keras_mask, reduce_weighted_values
from keras_ats.configurable import Configurable
from keras_ats.naming import snake_case
from keras_ats.ops.batch import weights_of_positions
from keras_ats.ops.labels import are_class_ids, shapes_fit
from keras_ats.ops.standardize import standardized_logits
from keras_ats.types import Config, Tensor


class KDLoss(Configurable, keras.losses.Loss):
    """Base of all losses between a student's and a teacher's logits.

    It checks shapes, brings both logits to float32, keeps gradients away from the teacher and
    padding away from the loss, and weighs and averages exactly as Keras's own losses do, also
    under `tf.distribute`. A subclass implements `call`.

    Args:
        standardize: Whether both logits are z-scored first (`ops.standardized_logits`), so that
            the student need not match the teacher's range. Defaults to False.
        reduction: As for `keras.losses.Loss`. The default `"sum_over_batch_size"` is the mean over
            valid positions, `"none"` gives one value per position,
            `"mean_with_sample_weight"` divides by the sum of the weights.
        name: Name of the loss. Defaults to the class name in snake case.

    Attributes:
        needs_labels: Whether the loss cannot be computed without labels.
        min_classes: Fewest classes that the loss is defined for. Defaults to 2.

    Example:

    ```python
    class LogitDistance(keras_ats.losses.KDLoss):
        def call(self, student_logits, teacher_logits, labels, mask):
            return keras.ops.mean(keras.ops.square(student_logits - teacher_logits), axis=-1)

    LogitDistance()(np.zeros((2, 3)), np.ones((2, 3)))  # 1.0
    ```
    """

    needs_labels: bool = False
    min_classes: int = 2

    def __init__(
        self,
        *,
        standardize: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        # Always float32: a loss in the models' half precision would round away what it teaches.
        # The name is the same in every run, since logs go by it; Keras would count instances.
        super().__init__(
            name=name or snake_case(type(self).__name__), reduction=reduction, dtype="float32"
        )
        self.standardize = standardize

    def __call__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of one batch.

        Args:
            student_logits: Float tensor of shape `(..., C)`.
            teacher_logits: Float tensor of shape `(..., C)`, any float dtype.
            labels: Class ids of shape `(...,)` or `(..., 1)`, or one-hot or soft rows of shape
                `(..., C)`. Only some losses need them.
            sample_weight: Weight of each position, `(...,)`, or of each sample, `(B,)`.
            mask: Bool tensor of shape `(...,)`, True for valid positions. Defaults to the Keras
                mask that travels with `student_logits`, if any.

        Returns:
            float32 scalar, or shape `(...,)` with `reduction="none"`.

        Raises:
            ValueError: If shapes do not fit, or labels are needed and missing.
        """
        if mask is None:
            mask = get_keras_mask(student_logits)
        student_logits = ops.cast(ops.convert_to_tensor(student_logits), "float32")
        teacher_logits = ops.cast(ops.convert_to_tensor(teacher_logits), "float32")
        # A single logit has no standard deviation over classes.
        min_classes = max(self.min_classes, 2) if self.standardize else self.min_classes
        checks.same_classes(student_logits, teacher_logits, min_classes)
        if labels is None and self.needs_labels:
            raise ValueError(
                f"{type(self).__name__} needs labels. Received: labels=None. Pass the class ids or "
                "one-hot labels of the batch, or use a loss that needs none, such as "
                "TemperatureKD."
            )
        if mask is not None:
            mask = _mask_of_positions(mask, student_logits)
            # A padded position may hold anything, NaN included; zeroing the loss afterwards
            # would still let that into the gradient.
            valid = ops.expand_dims(mask, -1)
            student_logits = ops.where(valid, student_logits, 0.0)
            teacher_logits = ops.where(valid, teacher_logits, 0.0)
            if self.needs_labels:
                labels = _without_padding(labels, valid, student_logits)
        if self.standardize:
            student_logits = standardized_logits(student_logits)
            teacher_logits = standardized_logits(teacher_logits)
        values = self.call(student_logits, ops.stop_gradient(teacher_logits), labels, mask)
        return self._reduce(values, sample_weight, mask)

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position; the arguments are checked, float32 and masked.

        Args:
            student_logits: float32 tensor of shape `(..., C)`.
            teacher_logits: float32 tensor of shape `(..., C)`, without gradient.
            labels: Labels as the caller gave them, or None.
            mask: Bool tensor of shape `(...,)`, or None.

        Returns:
            float32 tensor of shape `(...,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises if the loss does not fit a student with these outputs."""
        if len(names) > 1:
            raise ValueError(
                f"The student has several outputs, {list(names)}; `kd_loss` must say which one it "
                f"is for. Received: kd_loss={type(self).__name__}. Pass a dict such as "
                f"{{'{names[0]}': keras_ats.losses.AsymmetricTemperatureKD(4, 2)}}."
            )

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {"standardize": self.standardize, "reduction": self.reduction, "name": self.name}

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables into a Keras file; called by Keras."""
        for index, variable in enumerate(self.variables):
            store[str(index)] = variable

    def load_own_variables(self, store: Any) -> None:
        """Reads the variables from a Keras file; called by Keras."""
        for index, variable in enumerate(self.variables):
            variable.assign(store[str(index)])

    def _reduce(self, values: Tensor, sample_weight: Tensor | None, mask: Tensor | None) -> Tensor:
        return reduce_weighted_values(
            values,
            sample_weight=weights_of_positions(sample_weight, values),
            mask=mask,
            reduction=self.reduction,
            dtype="float32",
        )


def _without_padding(labels: Tensor, valid: Tensor, logits: Tensor) -> Tensor:
    """Clears rows of labels where they are padding; ids are harmless there, whatever they are."""
    labels = ops.convert_to_tensor(labels)
    if are_class_ids(labels, logits):
        return labels
    return ops.where(valid, labels, ops.zeros_like(labels))


def _mask_of_positions(mask: Tensor, logits: Tensor) -> Tensor:
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    if len(mask.shape) == len(logits.shape) and mask.shape[-1] == 1:
        mask = ops.squeeze(mask, axis=-1)
    if not shapes_fit(mask.shape, logits.shape[:-1]):
        raise ValueError(
            f"`mask` must have one value per position. Received: mask of shape "
            f"{tuple(mask.shape)} for logits of shape {tuple(logits.shape)}. Expected: shape "
            f"{tuple(logits.shape[:-1])}."
        )
    return mask
