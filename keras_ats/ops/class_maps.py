"""What a classifier says at each position of a layer, and of regions of it."""

from keras import ops

from keras_ats.ops.feature_maps import as_positions, average_pooled, l2_normalized
from keras_ats.types import Tensor


def class_activations(values: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns the logits of each position, whose mean over positions are those of the model.

    Args:
        values: Tensor of shape `(..., D)`.
        kernel: The classifier's kernel, `(D, C)`.
        bias: Its bias, `(C,)`, or None.
    """
    maps = ops.matmul(values, ops.cast(kernel, "float32"))
    return maps if bias is None else maps + ops.cast(bias, "float32")


def pooled_activations(
    maps: Tensor, resolution: int, *, normalize: bool, binarize: bool = False
) -> Tensor:
    """Returns class activation maps as they are compared, `(B, N, C)`.

    Args:
        maps: Tensor of shape `(B, ..., C)`.
        resolution: Size along each axis.
        normalize: Whether each class's map gets length 1.
        binarize: Whether a map becomes 1 where it is above the mean of its distance from 0, and 0
            elsewhere, before it is pooled.
    """
    axes = tuple(range(1, len(maps.shape) - 1))
    if binarize:
        threshold = ops.mean(ops.abs(maps), axis=axes, keepdims=True)
        maps = ops.cast(maps > threshold, "float32")
    pooled = as_positions(average_pooled(maps, (resolution,) * len(axes)))
    return l2_normalized(pooled, axis=1) if normalize else pooled


def region_means(values: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Returns the mean of each region of maps, `(B, N, C)`, coarse to fine, row by row.

    All are made of the finest ones, as in the authors' code; where sizes are multiples of it these
    are the means of the maps themselves.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        scales: Regions along each axis, ascending.
    """
    axes = len(values.shape) - 2
    finest = average_pooled(values, (max(scales),) * axes)
    pooled = [as_positions(average_pooled(finest, (scale,) * axes)) for scale in scales]
    return ops.concatenate(pooled, axis=1)
