"""Logits back from probabilities, as far as that is possible."""

from keras import ops

from keras_ats.types import Tensor

# The smallest normal float32. A probability below it was rounded to zero by the softmax itself.
_SMALLEST = 2.0**-126


def centered_log_probabilities(probabilities: Tensor) -> Tensor:
    r"""The zero-mean logits that give these probabilities: $\log p_c - \mathrm{mean}_j \log p_j$.

    Probabilities do not determine logits: a constant per sample is lost, and ATS depends on it.
    Zero mean is the natural guess, because softmax cross-entropy pushes logits of a linear head
    along zero-sum directions only. Read the logits themselves wherever that is possible.

    Args:
        probabilities: Tensor of shape `(..., C)`, rows summing to 1.

    Returns:
        float32 tensor of shape `(..., C)`, rows summing to 0.

    Example:

    ```python
    keras_ats.ops.centered_log_probabilities(np.array([[0.5, 0.5]]))  # [[0, 0]]
    ```
    """
    log_probabilities = ops.log(ops.maximum(ops.cast(probabilities, "float32"), _SMALLEST))
    return log_probabilities - ops.mean(log_probabilities, axis=-1, keepdims=True)
