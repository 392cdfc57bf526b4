"""Positions that a label marks as not to count: left out as if they were masked."""

from keras import ops

from keras_ats._keras import get_keras_mask
from keras_ats.ops.label_range import has_label
from keras_ats.record import Lesson
from keras_ats.types import Tensor


def without_ignored(lesson: Lesson, ignored: int | None) -> Lesson:
    """The lesson with positions masked whose label is the one that the supervised loss ignores.

    Segmentation marks pixels with 255, and language models tokens with -100, that nothing is known
    of. A loss that reads labels would take them for positions without a correct class.

    Args:
        lesson: A lesson of one output.
        ignored: The id, such as `ignore_class` of the supervised loss; None leaves all as it is.

    Returns:
        The lesson, its `student.mask` joined with the positions that have a label. Labels that are
        rows, and a lesson without labels, are left as they are.
    """
    if ignored is None or lesson.labels is None:
        return lesson
    student = lesson.student
    labelled = has_label(lesson.labels, student.logits, ignored)
    if labelled is None:
        return lesson
    mask = student.mask if student.mask is not None else get_keras_mask(student.logits)
    return lesson._replace(student=student._replace(mask=joined_masks(mask, labelled)))


def joined_masks(mask: Tensor | None, other: Tensor) -> Tensor:
    """True where both masks are, shape `(...,)`; the first may be None, or of shape `(..., 1)`."""
    if mask is None:
        return other
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    if len(mask.shape) > len(other.shape):
        mask = ops.squeeze(mask, axis=-1)
    return ops.logical_and(mask, other)
