"""The mean over a batch that may be spread over devices."""

import keras
from keras import ops

from keras_ats.ops.arguments import as_floats, as_mask
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
    mask = np.array([True, True, False])
    keras_ats.temperatures.batch_mean(np.array([1.0, 3.0, 8.0]), mask)  # 2.0
    ```
    """
    values = as_floats(values, "values")
    weights = ops.ones_like(values) if mask is None else as_mask(mask, "mask", values.shape)
    total, count = _sum_over_replicas(ops.sum(values * weights), ops.sum(weights))
    return ops.divide_no_nan(total, count)


def _sum_over_replicas(*values: Tensor) -> tuple[Tensor, ...]:
    if keras.backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return tuple(context.all_reduce("sum", list(values)))
