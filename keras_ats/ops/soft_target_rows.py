r"""The divergence from soft targets, row by row, with a gradient that needs little kept for it.

With $p = \mathrm{softmax}(f_c / \tau_c)$, $q = \mathrm{softmax}(z / \tau_S)$ and a factor $w$

$$L = w \, D(p, q), \qquad \frac{\partial L}{\partial z} = \frac{w}{\tau_S} (q - p)$$

for the cross-entropy and for $KL(p \| q)$ alike: what must be kept of a row are two sums.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from keras_ats._gradients import RowLoss, with_own_gradient
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
        _as_rows(teacher),
        _as_rows(temperature),
        _as_rows(student_temperature),
        _as_rows(factor),
        correct_temperature,
        labels,
    )
    values = with_own_gradient(_ROW_LOSSES[divergence], _as_rows(student), rows)
    return values if len(student.shape) == 2 else ops.reshape(values, ops.shape(student)[:-1])


def _as_rows(values: Tensor) -> Tensor:
    return values if len(values.shape) in (0, 2) else ops.reshape(values, (-1, values.shape[-1]))


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
    if student.device.type == "cpu" and bool(student.amin() > LEAST_ORDINARY):
        values, scale = _ordinary_on_torch(student, rows, gradient, divergence)
        # A class that the teacher lacks makes NaN of what is to be 0.
        if bool(values.isfinite().all()):
            return values, scale
    present = present_classes(student)
    teacher = rows.teacher.clamp(min=LOG_OF_ZERO)
    values, scale = _ordinary_on_torch(
        student.clamp(min=LOG_OF_ZERO), rows._replace(teacher=teacher), gradient, divergence
    )
    if gradient is not None:
        gradient.masked_fill_(~present, 0.0)
    return values, scale


def _ordinary_on_torch(student: Any, rows: Rows, gradient: Any, divergence: str) -> tuple[Any, Any]:
    import torch

    temperature, factor = rows.student_temperature, rows.factor
    softened = student
    if temperature.ndim or student.device.type != "cpu" or float(temperature) != 1.0:
        softened = student / temperature
    answers = torch.softmax(softened, -1)
    softened = softened - softened.amax(-1, keepdim=True)
    said = _said_on_torch(rows.teacher, rows)
    targets = torch.softmax(said, -1)
    # The largest power is 1, and the largest probability its share of the total.
    values = -torch.log(answers.amax(-1))
    if divergence == "kl":
        said -= said.amax(-1, keepdim=True)
        values += torch.log(targets.amax(-1))
        values += torch.linalg.vecdot(targets, said.sub_(softened))
    else:
        values -= torch.linalg.vecdot(targets, softened)
    values *= factor[:, 0] if factor.ndim else factor
    if gradient is not None:
        torch.sub(answers, targets, out=gradient)
    return values, factor / temperature


def _said_on_torch(teacher: Any, rows: Rows) -> Any:
    """The softened teacher; labels that are ids are reached for, and out of range they are none."""
    import torch

    if rows.labels is None:
        return teacher / rows.temperature
    if rows.labels.is_floating_point():
        label = rows.labels
        return teacher / (label * rows.correct_temperature + (1.0 - label) * rows.temperature)
    said = teacher / rows.temperature
    ids, valid = ids_and_validity(rows.labels, teacher)
    correct = teacher.gather(-1, ids) / rows.correct_temperature
    return said.scatter_(-1, ids, torch.where(valid, correct, said.gather(-1, ids)))


LEAN_DIVERGENCES = ("kl", "cross_entropy")
_ROW_LOSSES = {
    name: RowLoss(
        functools.partial(_losses, divergence=name),
        _gradient,
        functools.partial(_on_torch, divergence=name),
    )
    for name in LEAN_DIVERGENCES
}
