"""The base class of losses on logits: all that is not arithmetic, once."""

from typing import Any, Literal, TypedDict

import keras
from keras import ops

from keras_ats._keras import get_keras_mask
from keras_ats.adjustments.adjustment import Adjustment, adjusted_log_softmax
from keras_ats.checks import as_boolean, as_string, as_whole_number, snake_case
from keras_ats.losses.buckets import as_buckets
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.ignored_labels import joined_masks
from keras_ats.losses.logit_arguments import (
    check_class_count,
    check_logits,
    cleared_labels,
    mask_of_positions,
)
from keras_ats.losses.reduction import Reduction, as_reduction
from keras_ats.ops.label_range import has_label, invalid_labels, nan_where_invalid
from keras_ats.ops.labels import are_class_ids
from keras_ats.record import Head, Lesson, Needs, Outputs, TopKLogits
from keras_ats.types import Tensor


class LossOptions(TypedDict, total=False):
    """What every loss on logits takes besides its own arguments; see `KDLoss`."""

    reduction: Reduction | None
    name: str | None
    ignore_label: int | None
    pseudo_labels: bool


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
        ignore_label: A class id, such as 255 or -100, whose positions are left out as if they were
            masked. Defaults to None. A `Distiller` leaves out the `ignore_class` of its supervised
            loss by itself where a loss reads labels; one that reads none learns there too, unless
            this is given.
        pseudo_labels: Whether the teacher's class stands in for the label, for data that has none
            or labels that are not to be trusted. Defaults to False.

    Any other label out of range, or row with entries outside [0, 1], makes the loss NaN, on every
    backend, where the position counts. Gradients stay finite.

    Attributes:
        needs_labels: Whether `call` reads the labels. Defaults to False.
        min_classes: Fewest classes that the loss is defined for. Defaults to 2.
        family: The heads that the loss is for: `"softmax"` (default), whose classes exclude each
            other, `"sigmoid"`, or None for any values.
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
    family: Literal["softmax", "sigmoid"] | None = "softmax"
    adjustment: Adjustment | None = None

    def __init__(
        self,
        *,
        reduction: Reduction | None = "sum_over_batch_size",
        name: str | None = None,
        ignore_label: int | None = None,
        pseudo_labels: bool = False,
    ) -> None:
        # Always float32: a loss in the models' half precision would round away what it teaches.
        # The name is the same in every run, since logs go by it; Keras would count instances.
        if name is None:
            name = snake_case(type(self).__name__)
        keras.losses.Loss.__init__(
            self,
            name=as_string(name, "name", "what the loss is logged by"),
            reduction=as_reduction(reduction),
            dtype="float32",
        )
        self.ignore_label = (
            None if ignore_label is None else as_whole_number(ignore_label, "ignore_label")
        )
        self.pseudo_labels = as_boolean(pseudo_labels, "pseudo_labels")

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """What the loss cannot be computed without: labels, unless the teacher's class will do."""
        reads_given_labels = self.reads_labels and not self.pseudo_labels
        return Needs(
            labels=reads_given_labels or self.ignore_label is not None,
            heads=(Head(family=self.family, top_k=self._fixed_temperatures is not None),),
        )

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
        student_logits = ops.convert_to_tensor(student_logits, "float32")
        if isinstance(teacher_logits, TopKLogits):
            return self._of_top_k(student_logits, teacher_logits, labels, sample_weight, mask)
        teacher_logits = ops.convert_to_tensor(teacher_logits, "float32")
        check_logits(student_logits, teacher_logits)
        # There is nothing to exchange or to standardise among the classes of a single logit.
        needed = self.min_classes if self.adjustment is None else max(self.min_classes, 2)
        check_class_count(student_logits.shape[-1], needed, type(self).__name__)
        if labels is None and self.needs.labels:
            raise ValueError(self._labels_are_missing())
        if mask is not None:
            mask = mask_of_positions(mask, student_logits)
        if self.ignore_label is not None:
            mask = joined_masks(mask, self._labelled(labels, student_logits, self.ignore_label))
        if self.pseudo_labels:
            labels = self.labels_of_teacher(teacher_logits)
        if mask is not None:
            # A padded position may hold anything, NaN included; zeroing the loss afterwards
            # would still let that into the gradient.
            valid = ops.expand_dims(mask, -1)
            student_logits = ops.where(valid, student_logits, 0.0)
            teacher_logits = ops.where(valid, teacher_logits, 0.0)
        invalid = None
        if self.reads_labels:
            if mask is not None:
                labels = cleared_labels(labels, ops.logical_not(mask), student_logits)
            invalid = self.invalid_labels(labels, student_logits)
            labels = cleared_labels(labels, invalid, student_logits)
        if self.adjustment is not None:
            student_logits = self.adjustment.adjust_student_logits(student_logits)
            teacher_logits = self.adjustment.adjust_logits(teacher_logits, labels)
        lesson = Lesson(
            Outputs(student_logits, mask=mask), Outputs(ops.stop_gradient(teacher_logits)), labels
        )
        value = self.reduce(self.call(lesson), sample_weight, mask)
        return value if invalid is None else nan_where_invalid(value, invalid, sample_weight, mask)

    def check_classes(self, count: int | None) -> None:
        """Raises if there are too few classes to learn from; a number not known yet passes.

        Called before training. A batch by itself may have fewer than an adjustment leaves something
        of: the loss is defined, and constant.
        """
        check_class_count(count, self.min_classes, type(self).__name__)
        # A chain names the rule that needs more.
        for rule in getattr(self.adjustment, "adjustments", [self.adjustment]):
            if rule is not None:
                check_class_count(count, rule.min_classes, type(rule).__name__)

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

    def bucket_temperatures(self) -> tuple[Tensor, Tensor] | None:
        """Returns the temperatures at which the loss takes classes that are not the label.

        A loss that takes them all at one, and reads nothing of them but a softmax, can do with the
        teacher's largest logits and the sum of the others: a cache with `top_k`.

        Returns:
            Scalars of the teacher and of the student; None (default) where all logits are needed.
        """
        return None

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

    def labels_of_teacher(self, teacher_logits: Tensor) -> Tensor:
        """Returns the labels that the teacher would give, for `pseudo_labels`; by default ids.

        Args:
            teacher_logits: float32 tensor of shape `(..., C)`.

        Returns:
            Labels in a form that the loss takes.
        """
        return ops.argmax(teacher_logits, axis=-1)

    def invalid_labels(self, labels: Tensor, logits: Tensor) -> Tensor:
        """Returns where labels are out of range, which makes the loss NaN.

        Args:
            labels: Labels as the caller gave them, cleared where masked.
            logits: Tensor of shape `(..., C)`; only its shape is used.

        Returns:
            Bool tensor of shape `(...,)`.
        """
        return invalid_labels(labels, logits)

    def soft_targets(self, lesson: Lesson, temperature: Tensor) -> Tensor:
        """Returns the log of what the teacher teaches at a temperature, shape `(..., C)`."""
        return adjusted_log_softmax(
            self.adjustment, lesson.teacher.logits, lesson.labels, temperature
        )

    @property
    def reads_labels(self) -> bool:
        """Whether the loss, or its adjustment, reads what the labels say."""
        adjusted_by_label = self.adjustment is not None and self.adjustment.needs_labels
        return self.needs_labels or adjusted_by_label

    @property
    def _fixed_temperatures(self) -> tuple[Tensor, Tensor] | None:
        """The temperatures of buckets; what a cache keeps has no gradient in a learned one."""
        found = self.bucket_temperatures()
        if found is None or any(isinstance(one, keras.Variable) and one.trainable for one in found):
            return None
        return found

    def _of_top_k(
        self,
        student_logits: Tensor,
        teacher: TopKLogits,
        labels: Tensor | None,
        sample_weight: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """The loss over the classes that are kept, and all others as one more."""
        temperatures = self._fixed_temperatures
        if temperatures is None:
            raise ValueError(
                f"{type(self).__name__} reads all logits of the teacher. Received: the largest and "
                "the sum of the others. Use TemperatureKD, AsymmetricTemperatureKD or DecoupledKD "
                "without adjustment and with fixed temperatures, or a cache made without top_k."
            )
        if labels is None and self.needs.labels:
            raise ValueError(self._labels_are_missing())
        if mask is not None:
            mask = mask_of_positions(mask, student_logits)
        if self.ignore_label is not None and labels is not None:
            mask = joined_masks(mask, self._labelled(labels, student_logits, self.ignore_label))
        if self.pseudo_labels:
            labels = teacher.ids[..., 0]  # They fall.
        if mask is not None:
            student_logits = ops.where(ops.expand_dims(mask, -1), student_logits, 0.0)
            if labels is not None and are_class_ids(labels, student_logits):
                labels = ops.where(mask, _positions(labels, mask), teacher.ids[..., 0])
        are_learned = any(variable.trainable for variable in self.variables)
        buckets = as_buckets(student_logits, teacher, labels, temperatures, are_learned=are_learned)
        # Not by copy.copy, by which Keras reads the values of variables.
        plain: Any = object.__new__(type(self))
        vars(plain).update(vars(self), ignore_label=None, pseudo_labels=False)
        return plain(
            buckets.student,
            buckets.teacher,
            labels=buckets.labels,
            sample_weight=sample_weight,
            mask=mask,
        )

    def _labelled(self, labels: Tensor, logits: Tensor, ignored: int) -> Tensor:
        labelled = has_label(labels, logits, ignored)
        if labelled is None:
            raise ValueError(
                "`ignore_label` is a class id, and needs labels that are class ids. Received: "
                f"ignore_label={ignored} with labels of shape {tuple(labels.shape)} for logits of "
                f"shape {tuple(logits.shape)}. Pass ids, or a mask instead of `ignore_label`."
            )
        return labelled

    def _labels_are_missing(self) -> str:
        name = type(self).__name__
        remedy = "use a loss that needs none, such as TemperatureKD"
        if self.adjustment is not None and self.adjustment.needs_labels:
            name += f" with adjustment={type(self.adjustment).__name__}"
            remedy = "leave the adjustment out"
        if self.ignore_label is not None:
            name += f" with ignore_label={self.ignore_label}"
            remedy = "leave `ignore_label` out"
        return (
            f"{name} needs labels. Received: labels=None. Pass the class ids or one-hot labels of "
            f"the batch, let the teacher give them (pseudo_labels=True), or {remedy}."
        )


def _positions(labels: Tensor, mask: Tensor) -> Tensor:
    """Class ids in the shape of a mask."""
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    return ops.squeeze(labels, axis=-1) if len(labels.shape) > len(mask.shape) else labels
