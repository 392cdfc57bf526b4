"""Weights of samples as weights of their positions, such as pixels or tokens."""

from keras import ops

from keras_ats.checks import finite_number
from keras_ats.ops.arguments import as_factor, check_broadcast
from keras_ats.types import Tensor


def weights_of_positions(sample_weight: Tensor | None, positions: Tensor) -> Tensor | None:
    """A sample's weight as the weight of all its positions, such as pixels or tokens.

    Keras's own losses cannot: they fail, or take weights of samples for weights of tokens where
    there happen to be as many. The result is a copy, because on torch Keras multiplies masks into
    the weights that it is given.

    Args:
        sample_weight: Tensor of shape `(B,)` up to `(B, ...)`, or None.
        positions: Tensor with one value per position, `(B, ...)`; only its shape is used.

    Returns:
        float32 tensor of the shape of `positions`; a scalar for one of rank 0; None for None.

    Example:

    ```python
    keras_ats.ops.weights_of_positions(np.array([1.0, 0.0]), np.zeros((2, 2)))  # [[1, 1], [0, 0]]
    ```
    """
    if sample_weight is None:
        return None
    weights = as_factor(sample_weight, "sample_weight", None, finite_number)
    if not hasattr(positions, "shape"):
        raise TypeError(
            "`positions` must be a tensor with one value per position. Received: "
            f"positions={positions!r} of type {type(positions).__name__}."
        )
    shape = ops.shape(positions)
    if len(shape) == len(weights.shape) - 1 and weights.shape[-1] == 1:
        weights = ops.squeeze(weights, axis=-1)
    while 0 < len(weights.shape) < len(shape):
        weights = ops.expand_dims(weights, -1)
    if len(shape):
        check_broadcast(weights, "sample_weight", tuple(positions.shape))
    if len(shape) == len(weights.shape):
        weights = ops.broadcast_to(weights, shape)
    return ops.copy(weights)
