"""A teacher's largest logits and the sum of the others, as logits of so many classes and one more.

Softmax, and what the losses make of it, see the others as one class: its probability is the sum of
theirs. At one temperature that sum is exact; so a loss says at which it takes the others.
"""

from typing import NamedTuple

from keras import ops

from keras_ats.ops.absent_classes import LOG_OF_ZERO, finite_logits
from keras_ats.ops.kept_classes import kept_and_others
from keras_ats.ops.labels import are_class_ids, shapes_fit
from keras_ats.ops.tail import tail_log_sum_exp
from keras_ats.record import TopKLogits
from keras_ats.types import Tensor

# What a soft label may leave to the classes that were not kept.
MOST_LEFT = 1e-5


class Buckets(NamedTuple):
    """Logits and labels of the kept classes, and of all others as the last one.

    Attributes:
        student: float32, `(..., k + 1)`.
        teacher: float32, `(..., k + 1)`.
        labels: Ids or rows of these classes; out of range where the label is none of the kept.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor | None


def as_buckets(
    student: Tensor,
    teacher: TopKLogits,
    labels: Tensor | None,
    temperatures: tuple[Tensor, Tensor],
    *,
    are_learned: bool = False,
) -> Buckets:
    """Returns logits over the kept classes and one more.

    Args:
        student: float32, `(..., C)`.
        teacher: What is kept of the teacher's.
        labels: In any form of `ops.label_distribution`, or None.
        temperatures: Of the teacher's and of the student's other classes.
        are_learned: Whether the temperatures have a gradient. Defaults to False.
    """
    _check_classes(student, teacher)
    ids = ops.cast(teacher.ids, "int32")
    at_teacher, at_student = (ops.cast(ops.convert_to_tensor(t), "float32") for t in temperatures)
    tail = tail_log_sum_exp(teacher.tail, teacher.count, teacher.mean, at_teacher)
    tail = at_teacher * tail + ops.cast(teacher.maximum, "float32")
    # None of the others may be there at all.
    tail = ops.where(ops.cast(teacher.count, "float32") > 0, tail, LOG_OF_ZERO)
    values = finite_logits(teacher.values)
    return Buckets(
        kept_and_others(student, ids, at_student, is_learned=are_learned),
        _joined(values, tail),
        None if labels is None else _labels(ops.convert_to_tensor(labels), student, ids),
    )


def _check_classes(student: Tensor, teacher: TopKLogits) -> None:
    # Ids beyond the student's classes would be taken for others, without a word, on JAX.
    shapes = tuple(student.shape[:-1]), tuple(teacher.ids.shape[:-1])
    if student.shape[-1] != teacher.classes or not shapes_fit(*shapes):
        raise ValueError(
            "Student and teacher must have the same classes at the same positions. Received: a "
            f"student with {student.shape[-1]} classes, at {shapes[0]}, and a teacher with "
            f"{teacher.classes}, at {shapes[1]}. Of a vocabulary that is padded beyond the "
            f"student's, cache_teacher(..., classes={student.shape[-1]}) keeps what they share."
        )


def _joined(kept: Tensor, others: Tensor) -> Tensor:
    return ops.concatenate([kept, ops.expand_dims(others, -1)], axis=-1)


def _labels(labels: Tensor, logits: Tensor, ids: Tensor) -> Tensor:
    if are_class_ids(labels, logits):
        if len(labels.shape) == len(logits.shape):
            labels = ops.squeeze(labels, axis=-1)
        here = ids == ops.expand_dims(ops.cast(labels, "int32"), -1)
        # One past the last class is no label.
        return ops.where(ops.any(here, axis=-1), ops.argmax(here, axis=-1), ids.shape[-1] + 1)
    rows = ops.cast(labels, "float32")
    kept = ops.take_along_axis(rows, ids, axis=-1)
    left = ops.sum(rows, axis=-1) - ops.sum(kept, axis=-1)
    # A row that is none, where a label is not known to the cache.
    left = ops.where(left <= MOST_LEFT, 0.0, float("nan"))
    return _joined(kept, left)
