"""Z-scored logits, which take scale and shift out of the comparison."""

from keras import ops

from keras_ats.types import Tensor


def standardized_logits(logits: Tensor) -> Tensor:
    r"""Logits with zero mean and unit standard deviation over the classes of each sample.

    A small student need not match the range of a large teacher's logits to match what they say.

    $$Z(f) = (f - \mathrm{mean}(f)) / (10^{-7} + \mathrm{std}(f))$$

    with the unbiased standard deviation ($C - 1$ in the denominator), as in the official code. The
    gradient flows through mean and standard deviation. With two classes the result is
    $\pm 0.707$ whatever the logits, so nothing can be learned from it.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.

    Returns:
        float32 tensor of shape `(..., C)`.

    Example:

    ```python
    keras_ats.ops.standardized_logits(np.array([[1.0, 2.0, 3.0]]))  # [[-1, 0, 1]]
    ```

    Reference: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
    arXiv 2403.01427.
    """
    logits = ops.cast(logits, "float32")
    centered = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.sum(ops.square(centered), axis=-1, keepdims=True) / (logits.shape[-1] - 1)
    # The square root has no gradient at 0, where all logits are equal: nothing to scale there.
    constant = variance == 0
    deviation = ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, variance)))
    return centered / (1e-7 + deviation)
