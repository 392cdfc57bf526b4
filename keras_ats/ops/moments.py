"""Means and deviations of maps, cell by cell of a grid."""

from keras import ops

from keras_ats.ops.feature_maps import average_pooled
from keras_ats.types import Tensor


def cell_moments(
    values: Tensor, cells: int, epsilon: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mean and $\sqrt{\mathrm{var} + \epsilon}$ of each channel in each cell of a grid.

    The variance has $n - 1$ in its denominator; of one position it is 0.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        cells: Cells along each axis, which cover positions as adaptive pooling does.
        epsilon: Added to the variance.
        mask: Bool tensor of shape `(B, ...)`, or None.

    Returns:
        Two float32 tensors of shape `(B, cells, ..., C)`.
    """
    axes = tuple(range(1, len(values.shape) - 1))
    grid = (cells,) * len(axes)
    shape = (1, *ops.shape(values)[1:-1], 1)
    weights = (
        ops.ones(shape, dtype="float32")
        if mask is None
        else ops.cast(ops.expand_dims(mask, -1), "float32")
    )
    share = average_pooled(weights, grid)
    # Squares of what is far from 0 would lose the digits that the variance is in.
    center = ops.sum(values * weights, axis=axes, keepdims=True) / ops.maximum(
        ops.sum(weights, axis=axes, keepdims=True), 1.0
    )
    centered = (values - center) * weights
    filled = ops.maximum(share, 1e-9)
    mean = average_pooled(centered, grid) / filled
    variance = average_pooled(ops.square(centered), grid) / filled - ops.square(mean)
    count = share * _positions_of_cells(values, cells)
    variance = ops.maximum(variance, 0.0) * count / ops.maximum(count - 1.0, 1.0)
    valid = share > 0
    deviation = ops.sqrt(ops.where(count > 1.0, variance, 0.0) + epsilon)
    return ops.where(valid, mean + center, 0.0), ops.where(valid, deviation, 0.0)


def _positions_of_cells(values: Tensor, cells: int) -> Tensor:
    """How many positions each cell covers, `(1, cells, ..., 1)`."""
    axes = len(values.shape) - 2
    count = ops.ones((1,) * (axes + 2), dtype="float32")
    for axis in range(1, axes + 1):
        length = values.shape[axis]
        covered = [float(-(-(i + 1) * length // cells) - i * length // cells) for i in range(cells)]
        shape = [1] * (axes + 2)
        shape[axis] = cells
        count = count * ops.reshape(ops.convert_to_tensor(covered, dtype="float32"), shape)
    return count
