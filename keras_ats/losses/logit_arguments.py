"""What a loss on logits is called with: checked, and cleared of what does not count."""

from keras import ops

from keras_ats.ops.labels import are_class_ids, shapes_fit
from keras_ats.types import Tensor


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raises if the two do not have the same shape.

    Args:
        student_logits: Tensor of shape `(..., C)`.
        teacher_logits: Tensor of shape `(..., C)`.
    """
    student_shape, teacher_shape = tuple(student_logits.shape), tuple(teacher_logits.shape)
    if not student_shape or not shapes_fit(student_shape, teacher_shape):
        raise ValueError(
            "Student and teacher logits must have the same shape, classes last. Received: "
            f"student {student_shape}, teacher {teacher_shape}. If the class counts differ, "
            "give both models the same classes in the same order (slice the wider output)."
        )


def check_class_count(count: int | None, needed: int, name: str) -> None:
    """Raises if there are too few classes to learn from.

    Args:
        count: How many there are; None where that is not known yet.
        needed: Fewest classes that have something to say.
        name: Who needs them.
    """
    if count is None or count >= needed:
        return
    remedy = "Use a loss without it: there is nothing left to learn from"
    if count < 2:
        remedy = (
            "A single sigmoid unit is a two-class problem: use Dense(2), or BernoulliKD, which is "
            "made for sigmoid units"
        )
    raise ValueError(
        f"{name} needs at least {needed} classes on the last axis. Received: {count}. {remedy}."
    )


def mask_of_positions(mask: Tensor, logits: Tensor) -> Tensor:
    """Returns a mask as bool tensor of shape `(...,)`, or raises if it has another.

    Args:
        mask: One value per position, `(...,)` or `(..., 1)`.
        logits: Tensor of shape `(..., C)`.
    """
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


def cleared_labels(labels: Tensor, cleared: Tensor, logits: Tensor) -> Tensor:
    """Labels with zeros for rows that do not count; ids are harmless, whatever they are.

    Args:
        labels: Labels in any form of `ops.label_distribution`.
        cleared: Bool tensor of shape `(...,)`, True for positions that do not count.
        logits: Tensor of shape `(..., C)`.
    """
    labels = ops.convert_to_tensor(labels)
    if are_class_ids(labels, logits):
        return labels
    return ops.where(ops.expand_dims(cleared, -1), ops.zeros_like(labels), labels)
