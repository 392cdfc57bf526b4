"""What inner layers say, in one form: float32, `(batch, positions..., channels)`."""

from typing import Any

import numpy as np
from keras import ops

from keras_ats.types import Shape, Tensor


def channels_last(values: Tensor, data_format: str) -> Tensor:
    """Returns what a layer says as float32, its channels on the last axis.

    Args:
        values: Tensor of shape `(B, ..., C)`, or `(B, C, ...)` with `"channels_first"`.
        data_format: Where its channels are.
    """
    values = ops.cast(values, "float32")
    if data_format == "channels_last" or len(values.shape) < 3:
        return values
    return ops.moveaxis(values, 1, -1)


def channels_last_shape(shape: Shape, data_format: str) -> Shape:
    """Returns the shape that `channels_last` makes of `shape`."""
    if data_format == "channels_last" or len(shape) < 3:
        return tuple(shape)
    return (shape[0], *shape[2:], shape[1])


def as_positions(values: Tensor) -> Tensor:
    """Returns `(B, N, C)` for `(B, ..., C)`; a vector of features is one position."""
    shape = values.shape
    if len(shape) == 2:
        return ops.expand_dims(values, 1)
    return values if len(shape) == 3 else ops.reshape(values, (ops.shape(values)[0], -1, shape[-1]))


def flat_mask(mask: Tensor | None) -> Tensor | None:
    """Returns a mask of positions `(B, ...)` as float32 `(B, N)`; None for None."""
    if mask is None:
        return None
    mask = ops.cast(mask, "float32")
    return mask if len(mask.shape) == 2 else ops.reshape(mask, (ops.shape(mask)[0], -1))


def mean_over_positions(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the mean vector of each sample, `(B, C)`, over its valid positions.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        mask: Bool tensor of shape `(B, ...)`, or None.
    """
    values, flat = as_positions(values), flat_mask(mask)
    if flat is None:
        return ops.mean(values, axis=1)
    total = ops.sum(values * ops.expand_dims(flat, -1), axis=1)
    return total / ops.maximum(ops.sum(flat, axis=1, keepdims=True), 1.0)


def mean_of_samples(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Returns the mean of each sample, `(B,)`, over its valid positions.

    Args:
        values: Tensor of shape `(B, N)`.
        mask: Bool tensor of shape `(B, ...)` with N entries per sample, or None.
    """
    flat = flat_mask(mask)
    if flat is None:
        return ops.mean(values, axis=1)
    return ops.sum(values * flat, axis=1) / ops.maximum(ops.sum(flat, axis=1), 1.0)


def l2_normalized(values: Tensor, axis: Any = -1, epsilon: float = 1e-12) -> Tensor:
    """Returns vectors of length 1; shorter ones than `epsilon`, zeros among them, stay short."""
    squares = ops.sum(ops.square(values), axis=axis, keepdims=True)
    return values * ops.rsqrt(ops.maximum(squares, epsilon**2))


def average_pooled(values: Tensor, sizes: Shape) -> Tensor:
    """Returns maps of other sizes, each cell the mean of what it covers, as adaptive pooling does.

    Cell `i` of `n` covers positions `floor(i L / n)` up to `ceil((i + 1) L / n)` of `L`; a larger
    `n` than `L` repeats them.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        sizes: Sizes of the axes between.
    """
    for axis, size in enumerate(sizes, 1):
        length = values.shape[axis]
        if size is None or length == size:
            continue
        if length % size == 0:
            shape = ops.shape(values)
            values = ops.reshape(values, (*shape[:axis], size, length // size, *shape[axis + 1 :]))
            values = ops.mean(values, axis=axis + 1)
        else:
            cells = ops.convert_to_tensor(pooling_cells(length, size))
            values = ops.moveaxis(ops.tensordot(cells, values, axes=[[1], [axis]]), 0, axis)
    return values


def smaller_sizes(one: Shape, other: Shape) -> Shape:
    """Returns the smaller of two maps' sizes along each axis; None where neither is known."""
    pairs = zip(one[1:-1], other[1:-1], strict=True)
    return tuple(a if b is None else b if a is None else min(a, b) for a, b in pairs)


def pooling_cells(length: int, count: int) -> Any:
    """Returns the share of each position in each cell, a NumPy array `(count, length)`."""
    cells = np.zeros((count, length), "float32")
    for i in range(count):
        first, last = i * length // count, -(-(i + 1) * length // count)
        cells[i, first:last] = 1 / (last - first)
    return cells
