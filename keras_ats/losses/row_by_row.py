"""Losses that take each position by itself are computed some rows at a time."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_ats._gradients import as_rows, is_worth_own_gradient, made_forth, with_own_gradient
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.ops.label_rows import label_rows
from keras_ats.record import Lesson, Outputs
from keras_ats.types import Tensor

Call = Callable[[Any, Lesson], Tensor]

# Fewer logits are a single chunk.
_LEAST_ON_TORCH = 2**19


class _Rows(NamedTuple):
    """What a loss reads of `N` rows besides the student's logits.

    Attributes:
        teacher: float32 logits of shape `(N, C)`.
        labels: Ids of shape `(N, 1)`, int32, or rows of shape `(N, C)`, float32; or None.
    """

    teacher: Tensor
    labels: Tensor | None


def row_by_row(call: Call) -> Call:
    """Marks a `KDLoss.call` whose value at a position depends on logits and label there alone.

    Where it pays, the gradient is then made beside the value, of so many rows that all the formula
    needs stays within a cache. The numbers are the same.
    """

    @functools.wraps(call)
    def called(self: KDLoss, lesson: Lesson) -> Tensor:
        student = lesson.student.logits
        if not (_takes_rows(self) and is_worth_own_gradient(student, _LEAST_ON_TORCH)):
            return call(self, lesson)

        def values(logits: Tensor, rows: _Rows) -> Tensor:
            return call(self, Lesson(Outputs(logits), Outputs(rows.teacher), rows.labels))

        labels = None if lesson.labels is None else label_rows(lesson.labels, student)
        rows = _Rows(as_rows(lesson.teacher.logits), labels)
        return with_own_gradient(made_forth(values), student, rows)

    return called


def _takes_rows(loss: KDLoss) -> bool:
    """Whether only logits have a gradient, and no part of the loss may look at other rows."""
    adjustment = loss.adjustment
    return (
        keras.backend.backend() in ("torch", "jax")
        and type(loss).soft_targets is KDLoss.soft_targets
        and (adjustment is None or type(adjustment).adjust_targets is Adjustment.adjust_targets)
        and not any(variable.trainable for variable in loss.variables)
    )
