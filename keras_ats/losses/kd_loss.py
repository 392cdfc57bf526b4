"""The base class of losses on logits: all that is not arithmetic, once."""

from typing import Literal, TypeAlias, TypedDict

import keras
from keras import ops

from keras_ats._keras import get_keras_mask
from keras_ats.adjustments.adjustment import Adjustment, adjusted_log_softmax
from keras_ats.checks import snake_case
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.ops.labels import are_class_ids, shapes_fit
from keras_ats.record import Lesson, Needs, Outputs
from keras_ats.types import Tensor

Reduction: TypeAlias = Literal[
    "sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"
]


class LossOptions(TypedDict, total=False):
    """What every loss on logits takes besides its own arguments; see `KDLoss`."""

    reduction: Reduction | None
    name: str | None


class KDLoss(DistillationLoss, keras.losses.Loss):
    """Base of all losses between a student's and a teacher's logits.

    It checks shapes, brings both logits to float32, keeps gradients away from the teacher and
    padding away from the loss, and weighs and averages exactly as Keras's own losses do, also
    under `tf.distribute`. A subclass implements `call`.

    Args:
        reduction: As for `keras.losses.Loss`. The default `"sum_over_batch_size"` is the mean over
            valid positions, `"none"` gives one value per position,
            `"mean_with_sample_weight"` divides by the sum of the weights.
        name: Name of the loss. Defaults to the class name in snake case.

    Attributes:
        needs_labels: Whether `call` reads the labels. Defaults to False.
        min_classes: Fewest classes that the loss is defined for. Defaults to 2.
        adjustment: A rule of `keras_ats.adjustments` for the logits, or None.

    Example:

    ```python
    class LogitDistance(keras_ats.losses.KDLoss):
        def call(self, lesson):
            difference = lesson.student.logits - lesson.teacher.logits
            return keras.ops.mean(keras.ops.square(difference), axis=-1)

    LogitDistance()(np.zeros((2, 3)), np.ones((2, 3)))  # 1.0
    ```
    """

    needs_labels: bool = False
    min_classes: int = 2
    adjustment: Adjustment | None = None

    def __init__(
        self, *, reduction: Reduction | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        # Always float32: a loss in the models' half precision would round away what it teaches.
        # The name is the same in every run, since logs go by it; Keras would count instances.
        keras.losses.Loss.__init__(
            self, name=name or snake_case(type(self).__name__), reduction=reduction, dtype="float32"
        )

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """What the loss cannot be computed without: labels, if it or its adjustment reads them."""
        adjusted_by_label = self.adjustment is not None and self.adjustment.needs_labels
        return Needs(labels=self.needs_labels or adjusted_by_label)

    def __call__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        *,
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
            TypeError: If it is called as Keras calls a loss, `(y_true, y_pred, sample_weight)`.
            ValueError: If shapes do not fit, or labels are needed and missing.
        """
        if mask is None:
            mask = get_keras_mask(student_logits)
        student_logits = ops.cast(ops.convert_to_tensor(student_logits), "float32")
        teacher_logits = ops.cast(ops.convert_to_tensor(teacher_logits), "float32")
        self._check_classes(student_logits, teacher_logits)
        if labels is None and self.needs.labels:
            raise ValueError(self._labels_are_missing())
        if mask is not None:
            mask = _mask_of_positions(mask, student_logits)
            # A padded position may hold anything, NaN included; zeroing the loss afterwards
            # would still let that into the gradient.
            valid = ops.expand_dims(mask, -1)
            student_logits = ops.where(valid, student_logits, 0.0)
            teacher_logits = ops.where(valid, teacher_logits, 0.0)
            if self.needs.labels:
                labels = _without_padding(labels, valid, student_logits)
        if self.adjustment is not None:
            student_logits = self.adjustment.adjust_student_logits(student_logits)
            teacher_logits = self.adjustment.adjust_logits(teacher_logits, labels)
        lesson = Lesson(
            Outputs(student_logits, mask=mask), Outputs(ops.stop_gradient(teacher_logits)), labels
        )
        return self.reduce(self.call(lesson), sample_weight, mask)

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the loss of one batch under its name."""
        value = self(
            lesson.student.logits,
            lesson.teacher.logits,
            labels=lesson.labels,
            sample_weight=lesson.sample_weight,
            mask=lesson.student.mask,
        )
        return {self.name: value}

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position.

        Args:
            lesson: Its logits are checked, float32, adjusted, cleared where masked, the teacher's
                without gradient; its labels are as the caller gave them, or None; it has no
                features.

        Returns:
            float32 tensor of shape `(...,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def soft_targets(self, lesson: Lesson, temperature: Tensor) -> Tensor:
        """Returns the log of what the teacher teaches at a temperature, shape `(..., C)`."""
        return adjusted_log_softmax(
            self.adjustment, lesson.teacher.logits, lesson.labels, temperature
        )

    def _check_classes(self, student_logits: Tensor, teacher_logits: Tensor) -> None:
        student_shape, teacher_shape = tuple(student_logits.shape), tuple(teacher_logits.shape)
        if not student_shape or not shapes_fit(student_shape, teacher_shape):
            raise ValueError(
                "Student and teacher logits must have the same shape, classes last. Received: "
                f"student {student_shape}, teacher {teacher_shape}. If the class counts differ, "
                "give both models the same classes in the same order (slice the wider output)."
            )
        # There is nothing to exchange or to standardise among the classes of a single logit.
        needed = self.min_classes if self.adjustment is None else max(self.min_classes, 2)
        if student_shape[-1] is not None and student_shape[-1] < needed:
            raise ValueError(
                f"Soft targets need at least {needed} classes on the last axis. Received: shape "
                f"{student_shape}. A single sigmoid unit is a two-class problem: use Dense(2), or "
                "BernoulliKD, which is made for sigmoid units."
            )

    def _labels_are_missing(self) -> str:
        name, remedy = type(self).__name__, "use a loss that needs none, such as TemperatureKD"
        if self.adjustment is not None and self.adjustment.needs_labels:
            name += f" with adjustment={type(self.adjustment).__name__}"
            remedy = "leave the adjustment out"
        return (
            f"{name} needs labels. Received: labels=None. Pass the class ids or one-hot labels of "
            f"the batch, or {remedy}."
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
