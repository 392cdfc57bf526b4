r"""The cross-entropy of logits with labels, row by row, with a gradient that needs little kept.

$$L = -\sum_c y_c \log q_c, \qquad
\frac{\partial L}{\partial z} = q \textstyle\sum_c y_c - y, \qquad q = \mathrm{softmax}(z)$$
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops
from keras.backend import standardize_dtype

from keras_ats._gradients import RowLoss, chunks_of_rows, with_own_gradient
from keras_ats.ops.absent_classes import (
    LEAST_ORDINARY,
    LOG_OF_ZERO,
    finite_logits,
    present_classes,
)
from keras_ats.ops.labels import are_class_ids
from keras_ats.types import Tensor


class Labels(NamedTuple):
    """Labels of `N` rows.

    Attributes:
        values: Ids of shape `(N, 1)`, int32, or rows of shape `(N, C)`, float32.
    """

    values: Tensor


def label_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """The cross-entropy, differentiable in the logits alone.

    Args:
        labels: In any form of `label_distribution`; an id out of range counts as no label.
        logits: Float tensor of shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.
    """
    logits = ops.cast(logits, "float32")
    return with_own_gradient(_LABEL_LOSS, logits, Labels(label_rows(labels, logits)))


def label_rows(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels in one of two forms: ids of shape `(N, 1)`, int32, or rows `(N, C)`, float32."""
    if are_class_ids(labels, logits):
        ids = ops.cast(labels, "int32")
        return ids[:, None] if len(ids.shape) == 1 else ops.reshape(ids, (-1, 1))
    return ops.reshape(ops.cast(labels, "float32"), (-1, logits.shape[-1]))


def distribution_of_rows(labels: Tensor, logits: Tensor) -> Tensor:
    """What `label_rows` gave, as one distribution over classes per row, `(N, C)`."""
    if "int" not in standardize_dtype(labels.dtype):
        return labels
    return ops.cast(labels == ops.arange(logits.shape[-1], dtype="int32"), "float32")


def ids_and_validity(labels: Any, logits: Any) -> tuple[Any, Any]:
    """For torch: ids that can be reached for, int64, and which of them are classes."""
    ids = labels.long()
    reachable = ids.clamp(0, logits.shape[-1] - 1)
    return reachable, reachable == ids


def _losses(logits: Tensor, constants: Labels) -> tuple[Tensor, Sequence[Tensor]]:
    # Of the logits as they came: XLA writes out what is made of them for a sum or a maximum.
    top = ops.stop_gradient(ops.maximum(ops.max(logits, axis=-1, keepdims=True), LOG_OF_ZERO))
    logits = finite_logits(logits) - top
    log_total = ops.log(ops.sum(ops.exp(logits), axis=-1, keepdims=True))
    label = distribution_of_rows(constants.values, logits)
    return ops.sum(label * (log_total - logits), axis=-1), [top + log_total]


def _gradient(logits: Tensor, constants: Labels, kept: Sequence[Tensor]) -> Tensor:
    label = distribution_of_rows(constants.values, logits)
    total = _totals(constants.values, logits)
    gradient = total * ops.exp(finite_logits(logits) - kept[0]) - label
    return ops.where(present_classes(logits), gradient, 0.0)


def _totals(labels: Tensor, logits: Tensor) -> Tensor:
    """What labels add up to, `(N, 1)`; of ids without their rows, which XLA would write out."""
    if "int" not in standardize_dtype(labels.dtype):
        return ops.sum(labels, axis=-1, keepdims=True)
    is_class = ops.logical_and(labels >= 0, labels < logits.shape[-1])
    return ops.cast(is_class, "float32")


def _on_torch(logits: Any, constants: Labels, gradient: Any) -> tuple[Any, Any]:
    """The same for torch, which fuses nothing: few passes, and each exponential once."""
    if logits.device.type == "cpu":
        values = _values_on_torch(logits, constants.values, gradient)
        # Only a label of a class that the student lacks makes it as large, or NaN.
        if bool((values < -LEAST_ORDINARY).all()):
            return values, None
    return _values_on_torch(logits, constants.values, gradient, LOG_OF_ZERO), None


def _values_on_torch(logits: Any, labels: Any, gradient: Any, lowest: float | None = None) -> Any:
    """The losses of rows, and their gradients; logits below `lowest` are of absent classes."""
    import torch

    are_rows = labels.is_floating_point()
    values = logits.new_empty(len(logits))
    log_totals = logits.new_empty(len(logits), 1)
    for rows in chunks_of_rows(logits):
        given = logits[rows] if lowest is None else logits[rows].clamp(min=lowest)
        answers = torch.softmax(given, -1, out=None if gradient is None else gradient[rows])
        top, share = given.amax(-1, keepdim=True), answers.amax(-1, keepdim=True)
        # The largest power is 1, and the largest probability its share of the total.
        log_total = torch.sub(top, share.log_(), out=log_totals[rows])
        if are_rows:
            label = labels[rows]
            torch.sum(label * (log_total - given), -1, out=values[rows])
            if gradient is not None:
                answers.mul_(label.sum(-1, keepdim=True)).sub_(label)
        if lowest is not None and gradient is not None:
            answers.masked_fill_(~present_classes(logits[rows]), 0.0)
    if are_rows:
        return values
    ids, valid = ids_and_validity(labels, logits)
    of_label = logits.gather(-1, ids)
    if gradient is not None:
        gradient.scatter_add_(-1, ids, -present_classes(of_label).to(gradient.dtype))
        if logits.device.type != "cpu" or not bool(valid.all()):
            gradient *= valid
    of_label = of_label if lowest is None else of_label.clamp(min=lowest)
    return torch.where(valid, log_totals - of_label, 0.0)[:, 0]


_LABEL_LOSS = RowLoss(_losses, _gradient, _on_torch)
