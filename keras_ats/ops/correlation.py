"""Pearson's correlation, which compares two vectors whatever their scale and shift."""

from keras import ops

from keras_ats.checks import as_whole_number
from keras_ats.ops.arguments import as_mask, as_rows, check_same_rows
from keras_ats.types import Tensor


def pearson_correlation(x: Tensor, y: Tensor, axis: int = -1, mask: Tensor | None = None) -> Tensor:
    r"""Correlation of `x` and `y` along one axis.

    $$\rho = \frac{\sum_i (x_i - \bar x)(y_i - \bar y)}
    {\lVert x - \bar x \rVert \, \lVert y - \bar y \rVert + 10^{-8}}$$

    0 where one of the two is constant.

    Args:
        x: Float tensor, any float dtype.
        y: Tensor of the same shape.
        axis: The axis that is correlated. Defaults to the last.
        mask: Bool tensor that broadcasts against `x`, True for the entries that count. Defaults to
            all.

    Returns:
        float32 tensor without that axis.

    Example:

    ```python
    keras_ats.ops.pearson_correlation(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 9.0]))  # 1
    ```
    """
    x, y = as_rows(x, "x"), as_rows(y, "y")
    check_same_rows(x, y, "x", "y")
    axis = as_whole_number(axis, "axis")
    if not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"`axis` must be one of {len(x.shape)} axes. Received: axis={axis}.")
    if mask is not None:
        mask = as_mask(mask, "mask", x.shape)
    x, y = _centered(x, axis, mask), _centered(y, axis, mask)
    return ops.sum(x * y, axis=axis) / (_norm(x, axis) * _norm(y, axis) + 1e-8)


def _centered(x: Tensor, axis: int, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x - ops.mean(x, axis=axis, keepdims=True)
    counts = ops.broadcast_to(mask, ops.shape(x))
    number = ops.maximum(ops.sum(counts, axis=axis, keepdims=True), 1.0)
    return counts * (x - ops.sum(counts * x, axis=axis, keepdims=True) / number)


def _norm(x: Tensor, axis: int) -> Tensor:
    squared = ops.sum(ops.square(x), axis=axis)
    # The square root has no gradient at 0, where nothing varies: nothing to correlate there.
    constant = squared == 0
    return ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, squared)))
