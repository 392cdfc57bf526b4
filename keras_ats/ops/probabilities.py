"""Logits back from probabilities, as far as that is possible."""

import numbers

from keras import ops

from keras_ats.checks import fraction
from keras_ats.ops.arguments import as_floats, as_rows
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
    log_probabilities = _log(as_rows(probabilities, "probabilities"))
    return log_probabilities - ops.mean(log_probabilities, axis=-1, keepdims=True)


def bernoulli_logits(probabilities: Tensor) -> Tensor:
    r"""The logits whose sigmoids these probabilities are: $\log p - \log(1 - p)$.

    Unlike those of a softmax they are determined, as far as a probability near 1 still tells.

    Args:
        probabilities: Tensor of any shape; each entry stands for itself.

    Returns:
        float32 tensor of the same shape, finite where a probability is 0 or 1.

    Example:

    ```python
    keras_ats.ops.bernoulli_logits(np.array([0.5, 0.731059]))  # [0, 1]
    ```
    """
    if isinstance(probabilities, numbers.Number):
        probabilities = fraction(probabilities, "probabilities")
    probabilities = as_floats(probabilities, "probabilities")
    return _log(probabilities) - _log(1.0 - probabilities)


def _log(probabilities: Tensor) -> Tensor:
    return ops.log(ops.maximum(probabilities, _SMALLEST))
