"""Maps compared at several sizes, and brought to others."""

from keras import ops

from keras_ats.ops.feature_maps import as_positions, average_pooled, mean_of_samples
from keras_ats.types import Shape, Tensor


def hierarchical_difference(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference at full size and pooled to 4, 2 and 1, each half as heavy.

    Sizes that a map does not exceed along its first axis are left out; weights have sum 1.

    Args:
        student: Tensor of shape `(B, ..., C)`.
        teacher: Tensor of the same shape.
        mask: Bool tensor of shape `(B, ...)`, or None. In pooled maps padding counts as agreement.

    Returns:
        float32 tensor of shape `(B,)`.
    """
    difference = student - teacher
    rank = len(difference.shape) - 2
    if mask is not None:
        difference = ops.where(ops.expand_dims(mask, -1), difference, 0.0)
    squares = ops.mean(as_positions(ops.square(difference)), axis=-1)
    total, weight, weights = mean_of_samples(squares, mask), 1.0, 1.0
    length = difference.shape[1] if rank else 1
    for size in (4, 2, 1):
        if length is not None and size >= length:
            continue
        weight /= 2.0
        weights += weight
        # Pooling is linear, so that of the difference will do.
        pooled = average_pooled(difference, (size,) * rank)
        total += weight * ops.mean(as_positions(ops.square(pooled)), axis=(1, 2))
    return total / weights


def nearest_resized(values: Tensor, sizes: Shape) -> Tensor:
    """Returns maps of other sizes whose position `i` of `n` is `floor(i L / n)` of `L`.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        sizes: Sizes of the axes between.
    """
    for axis, size in enumerate(sizes, 1):
        length = values.shape[axis]
        if size is not None and length != size:
            chosen = [i * length // size for i in range(size)]
            values = ops.take(values, chosen, axis=axis)
    return values
