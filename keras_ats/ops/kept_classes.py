r"""Logits of a few classes of each row, and of all others as one more class, at little cost.

$$o = \tau \log \sum_{c \notin K} \exp(z_c / \tau), \qquad
\frac{\partial o}{\partial z_c} = \exp\big((z_c - o) / \tau\big) \text{ for } c \notin K$$

The kept ones are taken out before the sum. Taken off afterwards, from the sum over all classes,
they would leave no digit of the others where they hold nearly all of the probability.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ats._gradients import (
    RowLoss,
    as_rows,
    chunks_of_rows,
    is_worth_own_gradient,
    with_own_gradient,
)
from keras_ats.ops.absent_classes import LOG_OF_ZERO, finite_logits, present_classes
from keras_ats.types import Tensor


class Kept(NamedTuple):
    """What is to be known of `N` rows besides their logits.

    Attributes:
        ids: Classes that are kept, int32, `(N, k)`, each once in a row.
        temperature: Of the others, a scalar.
    """

    ids: Tensor
    temperature: Tensor


def kept_and_others(
    logits: Tensor, ids: Tensor, temperature: Tensor, *, is_learned: bool = False
) -> Tensor:
    """Logits of the kept classes, and of all others together.

    Args:
        logits: float32, `(..., C)`.
        ids: Classes that are kept, int32, `(..., k)`, each once in a row and fewer than all.
        temperature: At which the others are added up, a scalar.
        is_learned: Whether the temperature has a gradient too. Defaults to False.

    Returns:
        float32 tensor of shape `(..., k + 1)`; finite, as `finite_logits` makes them.
    """
    kept = Kept(as_rows(ids), temperature)
    if is_learned or not is_worth_own_gradient(logits):
        values, _ = _values(as_rows(logits), kept)
        values = ops.reshape(values, (*ops.shape(logits)[:-1], ids.shape[-1] + 1))
    else:
        values = with_own_gradient(_BUCKETS, logits, kept)
    # No gradient reaches classes that the student lacks, nor others of which it lacks all.
    return ops.where(present_classes(values), values, LOG_OF_ZERO)


def _values(logits: Tensor, kept: Kept) -> tuple[Tensor, Sequence[Tensor]]:
    others = _replaced(logits, kept.ids, -math.inf)
    # Of the logits as they came: XLA writes out what is made of them for a sum or a maximum.
    top = ops.stop_gradient(ops.max(others, axis=-1, keepdims=True))
    top = ops.maximum(top / kept.temperature, LOG_OF_ZERO)
    # Made finite after the division: XLA computes it twice, and of 1e30 the last digit is large.
    powers = ops.exp(finite_logits(others / kept.temperature) - top)
    total = top + ops.log(ops.sum(powers, axis=-1, keepdims=True))
    here = finite_logits(ops.take_along_axis(logits, kept.ids, axis=-1))
    return ops.concatenate([here, kept.temperature * total], axis=-1), [total]


def _gradient(logits: Tensor, kept: Kept, known: Sequence[Tensor]) -> Tensor:
    # Above 0 are kept classes alone, whose place is taken later.
    return ops.exp(ops.minimum(finite_logits(logits) / kept.temperature - known[0], 0.0))


def _pulled(gradient: Any, weights: Tensor, kept: Kept) -> Tensor:
    of_kept, of_others = weights[:, :-1], weights[:, -1:]
    if keras.backend.backend() == "torch":
        return gradient.mul_(of_others).scatter_(-1, kept.ids.long(), of_kept)
    return _replaced(of_others * gradient, kept.ids, of_kept)


def _replaced(rows: Tensor, ids: Tensor, values: Tensor | float) -> Tensor:
    """Rows with other values in some classes."""
    numbers = ops.expand_dims(ops.arange(ops.shape(rows)[0], dtype="int32"), -1)
    places = ops.stack([ops.broadcast_to(numbers, ops.shape(ids)), ids], axis=-1)
    values = ops.broadcast_to(ops.cast(values, "float32"), ops.shape(ids))
    return ops.scatter_update(rows, ops.reshape(places, (-1, 2)), ops.reshape(values, (-1,)))


def _on_torch(logits: Any, kept: Kept, gradient: Any) -> tuple[Any, None]:
    """The same for torch, which fuses nothing: few passes, and each exponential once."""
    import torch

    ids, temperature = kept.ids.long(), kept.temperature
    values = logits.new_empty(len(ids), ids.shape[-1] + 1)
    values[:, :-1] = logits.gather(-1, ids).clamp_(min=LOG_OF_ZERO)
    for rows in chunks_of_rows(logits):
        others = logits[rows].clamp(min=LOG_OF_ZERO).scatter_(-1, ids[rows], LOG_OF_ZERO)
        others /= temperature
        shares = torch.softmax(others, -1, out=None if gradient is None else gradient[rows])
        # The largest power is 1, and the largest probability its share of the total.
        values[rows, -1] = temperature * (others.amax(-1) - shares.amax(-1).log_())
    return values, None


_BUCKETS = RowLoss(_values, _gradient, _on_torch, _pulled)
