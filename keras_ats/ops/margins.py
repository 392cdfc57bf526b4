"""What a ReLU hides of a teacher: how far below zero its layer was."""

import math

import numpy as np
from keras import ops

from keras_ats.types import Tensor


def negative_means(scale: Tensor, shift: Tensor) -> Tensor:
    r"""Mean of a channel's negative values, known from its BatchNormalization.

    $$m = E[x \mid x < 0], \qquad x \sim N(\beta, |\gamma|^2)$$

    and $-3 |\gamma|$ where fewer than one value in a thousand is negative.

    Args:
        scale: NumPy array of shape `(C,)`, $\gamma$.
        shift: NumPy array of shape `(C,)`, $\beta$.

    Returns:
        float64 NumPy array of shape `(C,)`.
    """
    means = [_negative_mean(abs(float(a)), float(b)) for a, b in zip(scale, shift, strict=True)]
    return np.array(means)


def partial_squares(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Squared distance to the teacher cut off at its margin, 0 where the student is low enough.

    Args:
        student: Tensor of shape `(..., C)`, before any ReLU.
        teacher: Tensor of the same shape, before its ReLU.
        margin: Tensor of shape `(C,)`, below 0.
    """
    target = ops.maximum(teacher, margin)
    is_low_enough = ops.logical_and(student <= target, target <= 0.0)
    return ops.where(is_low_enough, 0.0, ops.square(student - target))


def _negative_mean(deviation: float, mean: float) -> float:
    if deviation == 0.0:
        return min(mean, 0.0)
    distance = mean / deviation
    share = 0.5 * math.erfc(distance / math.sqrt(2.0))
    if share <= 1e-3:
        return -3.0 * deviation
    density = math.exp(-0.5 * distance**2) / math.sqrt(2.0 * math.pi)
    return mean - deviation * density / share
