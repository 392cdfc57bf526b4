"""Classes that a model does not have: logits of minus infinity, as padded vocabularies hold."""

import math

from keras import ops

from keras_ats.ops.arguments import as_rows
from keras_ats.types import Tensor

# Stands for log 0. Finite, so that 0 * log 0 is 0, as the limit says, and not NaN, in value and in
# gradient; so low that its exponential is 0 exactly; and with room for factors such as a squared
# temperature below the largest float32.
LOG_OF_ZERO = -1e30

# No log-probability of a logit that was replaced is as low as this: JAX takes half the gradient of
# what lies on the bound of a `clip`.
LOG_PROBABILITY_OF_ZERO = -1e33

# No model gives such a logit: a lower one stands for an absent class. Far above `LOG_OF_ZERO`,
# which temperatures divide.
LEAST_ORDINARY = -1e20


def finite_logits(logits: Tensor, name: str = "logits", lowest: float = LOG_OF_ZERO) -> Tensor:
    """Logits, or log-probabilities, in float32, with a finite number for minus infinity.

    No gradient reaches an entry that was replaced; NaN stays NaN. The lowest float32, which others
    fill with instead of minus infinity, would overflow under a temperature and is replaced too.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        name: Name of the argument that they came in, for the error of what are none.
        lowest: What stands for minus infinity; `LOG_PROBABILITY_OF_ZERO` for log-probabilities.

    Returns:
        float32 tensor of the same shape.
    """
    # `ops.maximum` would do, but takes torch three times as long with its gradient.
    return ops.clip(as_rows(logits, name), lowest, math.inf)


def present_classes(logits: Tensor) -> Tensor:
    """Which classes a model has, as True and False.

    Args:
        logits: Logits or log-probabilities of shape `(..., C)`, finite or not.

    Returns:
        Bool tensor of the same shape.
    """
    return logits > LEAST_ORDINARY
