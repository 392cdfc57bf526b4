"""Centred and z-scored logits, which take shift and scale out of the comparison."""

from keras import ops

from keras_ats.ops.absent_classes import LOG_OF_ZERO, present_classes
from keras_ats.ops.arguments import as_rows
from keras_ats.types import Tensor


def standardized_logits(logits: Tensor) -> Tensor:
    r"""Logits with zero mean and unit standard deviation over the classes of each sample.

    A small student need not match the range of a large teacher's logits to match what they say.

    $$Z(f) = (f - \mathrm{mean}(f)) / (10^{-7} + \mathrm{std}(f))$$

    with the unbiased standard deviation ($C - 1$ in the denominator), as in the official code. The
    gradient flows through mean and standard deviation. With two classes the result is
    $\pm 0.707$ whatever the logits, so nothing can be learned from it. Classes whose logit is minus
    infinity are absent: mean and deviation are those of the others.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.

    Returns:
        float32 tensor of shape `(..., C)`; a huge negative number for absent classes.

    Example:

    ```python
    keras_ats.ops.standardized_logits(np.array([[1.0, 2.0, 3.0]]))  # [[-1, 0, 1]]
    ```

    Reference: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
    arXiv 2403.01427.
    """
    present, _, centered = _centered(as_rows(logits, "logits"))
    return ops.where(present, centered / (1e-7 + row_deviations(logits)), LOG_OF_ZERO)


def row_deviations(logits: Tensor) -> Tensor:
    """Unbiased standard deviation of the present classes of each sample, float32, `(..., 1)`."""
    _, count, centered = _centered(as_rows(logits, "logits"))
    squares = ops.sum(ops.square(centered), axis=-1, keepdims=True)
    variance = squares / ops.maximum(count - 1.0, 1.0)
    # The square root has no gradient at 0, where all logits are equal: nothing to scale there.
    constant = variance == 0
    return ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, variance)))


def centered_logits(logits: Tensor) -> Tensor:
    """Logits with zero mean over the present classes of each sample, float32."""
    present, _, centered = _centered(as_rows(logits, "logits"))
    return ops.where(present, centered, LOG_OF_ZERO)


def _centered(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which classes are present, how many, and their distance from the mean; 0 where absent."""
    present = present_classes(logits)
    count = ops.sum(ops.cast(present, "float32"), axis=-1, keepdims=True)
    total = ops.sum(ops.where(present, logits, 0.0), axis=-1, keepdims=True)
    return present, count, ops.where(present, logits - total / ops.maximum(count, 1.0), 0.0)
