"""The mean over a batch that may be spread over devices."""

import keras
from keras import ops

from keras_ats.types import Tensor


def batch_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over all valid positions of the global batch.

    On JAX a batch spread over devices is one array. Under `tf.distribute` each replica sees its
    share, and sums are exchanged, so that two replicas agree with one device. Meant for values
    without a gradient.

    Args:
        values: float32 tensor of shape `(...,)`.
        mask: Bool tensor of shape `(...,)`, True for valid positions; None (default) takes all.

    Returns:
        float32 scalar; 0 where no position is valid.

    Example:

    ```python
    keras_ats.ops.batch_mean(np.array([1.0, 3.0, 8.0]), np.array([True, True, False]))  # 2.0
    ```
    """
    values = ops.cast(values, "float32")
    weights = ops.ones_like(values) if mask is None else ops.cast(mask, "float32")
    total, count = _sum_over_replicas(ops.sum(values * weights), ops.sum(weights))
    return ops.divide_no_nan(total, count)


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
    weights = ops.convert_to_tensor(sample_weight, dtype="float32")
    if len(positions.shape) == len(weights.shape) - 1:
        weights = ops.squeeze(weights, axis=-1)
    while 0 < len(weights.shape) < len(positions.shape):
        weights = ops.expand_dims(weights, -1)
    if len(positions.shape) == len(weights.shape):
        weights = ops.broadcast_to(weights, ops.shape(positions))
    return ops.copy(weights)


def _sum_over_replicas(*values: Tensor) -> tuple[Tensor, ...]:
    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return tuple(context.all_reduce("sum", list(values)))
