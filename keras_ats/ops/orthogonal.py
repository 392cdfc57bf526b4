"""Matrices with orthonormal columns, free of constraints: what a projector may learn of angles."""

from keras import ops

from keras_ats.types import Tensor


def cayley_columns(lower: Tensor) -> Tensor:
    r"""Returns the first columns of Cayley's map of a skew-symmetric matrix.

    $$(I - A / 2)^{-1} (I + A / 2), \qquad A = L - L^\top$$

    with $L$ the lower triangle of `lower`, zero in the columns that it does not have. Any value
    gives orthonormal columns, and zeros give those of the identity.

    Args:
        lower: float32 tensor of shape `(n, k)`, `k <= n`.

    Returns:
        float32 tensor of shape `(n, k)`.
    """
    n, k = lower.shape
    lower = ops.tril(ops.convert_to_tensor(lower), -1)
    identity = ops.eye(n, k, dtype="float32")
    if 2 * k < n:
        # A has rank 2 k, so a system of that size will do.
        left = ops.concatenate([lower, identity], axis=1)
        right = ops.transpose(ops.concatenate([identity, -lower], axis=1))
        system = ops.eye(2 * k, dtype="float32") - ops.matmul(right, left) / 2.0
        return identity + ops.matmul(left, ops.solve(system, ops.matmul(right, identity)))
    square = ops.pad(lower, [[0, 0], [0, n - k]])
    skew = (square - ops.transpose(square)) / 2.0
    whole = ops.eye(n, dtype="float32")
    return ops.solve(whole - skew, ops.matmul(whole + skew, identity))


def layer_normalized(values: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Returns vectors of mean 0 and variance 1 over their channels, without scale or shift."""
    centered = values - ops.mean(values, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
    return centered * ops.rsqrt(variance + epsilon)
