r"""The divergence from soft targets, row by row, with a gradient that needs little kept for it.

With $p = \mathrm{softmax}(f_c / \tau_c)$, $q = \mathrm{softmax}(z / \tau_S)$ and a factor $w$

$$L = w \, D(p, q), \qquad \frac{\partial L}{\partial z} = \frac{w}{\tau_S} (q - p)$$

for the cross-entropy and for $KL(p \| q)$ alike: what must be kept of a row are two sums.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from keras_ats._gradients import RowLoss, as_rows, chunks_of_rows, rows_of, with_own_gradient
from keras_ats.ops.absent_classes import (
    LEAST_ORDINARY,
    LOG_OF_ZERO,
    finite_logits,
    present_classes,
)
from keras_ats.ops.label_rows import distribution_of_rows, ids_and_validity, label_rows
from keras_ats.types import Tensor


class Rows(NamedTuple):
    """All of `N` rows but the student's logits, without gradient.

    Attributes:
        teacher: float32 logits of shape `(N, C)`.
        temperature: Of all classes, or of the wrong ones: a scalar, `(N, 1)` or `(N, C)`.
        student_temperature: A scalar or `(N, 1)`.
        factor: What the divergence is multiplied by, a scalar or `(N, 1)`.
        correct_temperature: Of the label's class, a scalar or `(N, 1)`; None where `temperature` is
            for all classes.
        labels: Ids of shape `(N, 1)`, int32, or rows of shape `(N, C)`, float32; None without
            `correct_temperature`.
    """

    teacher: Tensor
    temperature: Tensor
    student_temperature: Tensor
    factor: Tensor
    correct_temperature: Tensor | None
    labels: Tensor | None


def soft_target_divergence(
    divergence: str,
    student: Tensor,
    teacher: Tensor,
    temperature: Tensor,
    student_temperature: Tensor,
    factor: Tensor,
    *,
    correct_temperature: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """The divergence, differentiable in the student's logits alone, for what a loss must cost.

    Args:
        divergence: `"kl"` or `"cross_entropy"`.
        student: float32 logits of shape `(..., C)`.
        teacher: float32 logits of the same shape, without gradient.
        temperature: Of all classes, or of the wrong ones: a scalar, `(..., 1)` or `(..., C)`,
            without gradient as are all that follow.
        student_temperature: A scalar or `(..., 1)`.
        factor: What the divergence is multiplied by, a scalar or `(..., 1)`.
        correct_temperature: Of the label's class, a scalar. Defaults to None: as all others.
        labels: Ids or rows, read with `correct_temperature` only.

    Returns:
        float32 tensor of shape `(...,)`.
    """
    if correct_temperature is None:
        labels = None
    else:
        labels = label_rows(labels, student)
    rows = Rows(
        as_rows(teacher),
        as_rows(temperature),
        as_rows(student_temperature),
        as_rows(factor),
        correct_temperature,
        labels,
    )
    return with_own_gradient(_ROW_LOSSES[divergence], student, rows)


def _losses(student: Tensor, rows: Rows, divergence: str) -> tuple[Tensor, Sequence[Tensor]]:
    softened = finite_logits(student) / rows.student_temperature
    said = finite_logits(rows.teacher) / _temperature(rows, student)
    # Less the largest of each row, which keeps the digits of sums with large ones.
    top, said_top = (
        ops.stop_gradient(ops.max(one, axis=-1, keepdims=True)) for one in (softened, said)
    )
    softened, said = softened - top, said - said_top
    log_total = ops.log(ops.sum(ops.exp(softened), axis=-1, keepdims=True))
    powers = ops.exp(said)
    said_total = ops.sum(powers, axis=-1, keepdims=True)
    distance = said - softened if divergence == "kl" else -softened
    values = ops.sum(powers * distance, axis=-1, keepdims=True) / said_total + log_total
    said_log_total = ops.log(said_total)
    if divergence == "kl":
        values = values - said_log_total
    return (rows.factor * values)[:, 0], [top + log_total, said_top + said_log_total]


def _gradient(student: Tensor, rows: Rows, kept: Sequence[Tensor]) -> Tensor:
    answers = ops.exp(finite_logits(student) / rows.student_temperature - kept[0])
    targets = ops.exp(finite_logits(rows.teacher) / _temperature(rows, student) - kept[1])
    gradient = rows.factor / rows.student_temperature * (answers - targets)
    return ops.where(present_classes(student), gradient, 0.0)


def _temperature(rows: Rows, student: Tensor) -> Tensor:
    if rows.labels is None:
        return rows.temperature
    label = distribution_of_rows(rows.labels, student)
    return label * rows.correct_temperature + (1.0 - label) * rows.temperature


def _on_torch(student: Any, rows: Rows, gradient: Any, divergence: str) -> tuple[Any, Any]:
    """The same for torch, which fuses nothing: few passes, and each exponential once."""
    scale = rows.factor / rows.student_temperature
    if student.device.type == "cpu" and bool(student.amin() > LEAST_ORDINARY):
        values = _values_on_torch(student, rows, gradient, divergence)
        # A class that the teacher lacks makes NaN of what is to be 0.
        if bool(values.isfinite().all()):
            return values, scale
    return _values_on_torch(student, rows, gradient, divergence, LOG_OF_ZERO), scale


def _values_on_torch(
    student: Any, rows: Rows, gradient: Any, divergence: str, lowest: float | None = None
) -> Any:
    """The losses of rows, and their gradients; logits below `lowest` are of absent classes."""
    import torch

    rows, correct = _taken_apart(rows)
    student_temperature = rows.student_temperature
    is_softened = (
        student_temperature.ndim
        or student.device.type != "cpu"
        or float(student_temperature) != 1.0
    )
    values, shares, said_shares = (student.new_empty(len(student)) for _ in range(3))
    softened_chunk = said_chunk = student[:0]
    for chunk in chunks_of_rows(student):
        given, here = student[chunk], rows_of(rows, chunk)
        if len(given) != len(said_chunk):
            softened_chunk, said_chunk = torch.empty_like(given), torch.empty_like(given)
        said = here.teacher
        if lowest is not None:
            given, said = given.clamp(min=lowest), said.clamp(min=lowest)
        if is_softened:
            given = torch.div(given, here.student_temperature, out=softened_chunk)
        said = torch.div(said, _temperature(here, said), out=said_chunk)
        if correct is not None:
            said.scatter_(-1, *rows_of(correct, chunk))
        answers = torch.softmax(given, -1, out=None if gradient is None else gradient[chunk])
        torch.amax(answers, -1, out=shares[chunk])
        # Less the largest of each row, which keeps the digits of sums with large ones.
        softened = torch.sub(given, given.amax(-1, keepdim=True), out=softened_chunk)
        if divergence == "kl":
            said -= said.amax(-1, keepdim=True)
            softened -= said
        targets = torch.softmax(said, -1, out=said_chunk)
        if divergence == "kl":
            torch.amax(targets, -1, out=said_shares[chunk])
        torch.linalg.vecdot(targets, softened, out=values[chunk])
        if gradient is not None:
            answers -= targets
            if lowest is not None:
                answers.masked_fill_(~present_classes(student[chunk]), 0.0)
    # The largest power is 1, and the largest probability its share of the total.
    values += shares.log_()
    if divergence == "kl":
        values -= said_shares.log_()
    factor = rows.factor
    return values.neg_().mul_(factor[:, 0] if factor.ndim else factor)


class OfLabels(NamedTuple):
    """The labels' classes, for torch to reach for.

    Attributes:
        ids: int64 tensor of shape `(N, 1)`.
        said: What the teacher says of them, softened, shape `(N, 1)`.
    """

    ids: Tensor
    said: Tensor


def _taken_apart(rows: Rows) -> tuple[Rows, OfLabels | None]:
    """Rows without labels that are ids, and these; an id out of range is none."""
    import torch

    if rows.labels is None or rows.labels.is_floating_point():
        return rows, None
    ids, valid = ids_and_validity(rows.labels, rows.teacher)
    said = rows.teacher.gather(-1, ids).clamp(min=LOG_OF_ZERO)
    temperature = torch.where(valid, rows.correct_temperature, rows.temperature)
    return rows._replace(labels=None), OfLabels(ids, said / temperature)


LEAN_DIVERGENCES = ("kl", "cross_entropy")
_ROW_LOSSES = {
    name: RowLoss(
        functools.partial(_losses, divergence=name),
        _gradient,
        functools.partial(_on_torch, divergence=name),
    )
    for name in LEAN_DIVERGENCES
}
