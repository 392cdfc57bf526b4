"""Where the units of an inner layer are active, without which of them is."""

from keras import ops

from keras_ats.ops.feature_maps import as_positions, l2_normalized
from keras_ats.types import Tensor


def attention_map(values: Tensor) -> Tensor:
    """Returns the mean square over channels, as a vector of length 1 over positions.

    Args:
        values: Tensor of shape `(B, ..., C)`, 0 where masked.

    Returns:
        float32 tensor of shape `(B, N)`.
    """
    return l2_normalized(ops.mean(ops.square(as_positions(values)), axis=-1))


def selectivity_difference(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of two sets of maps, under the kernel $(x^\top y)^2$.

    Args:
        student: Tensor of shape `(B, N, C)`, 0 where masked; each channel's map is normalised.
        teacher: Tensor of shape `(B, N, C')`.

    Returns:
        float32 tensor of shape `(B,)`.
    """
    student, teacher = (l2_normalized(one, axis=1) for one in (student, teacher))
    positions, channels = student.shape[1], (student.shape[2], teacher.shape[2])
    if positions is not None and positions <= min(channels):
        # The kernel's features are products of positions, and the means are taken first.
        difference = _products(student) / channels[0] - _products(teacher) / channels[1]
        return ops.sum(ops.square(difference), axis=(1, 2))
    own, of_teacher, across = (
        ops.mean(ops.square(ops.matmul(ops.swapaxes(a, 1, 2), b)), axis=(1, 2))
        for a, b in ((student, student), (teacher, teacher), (student, teacher))
    )
    return own + of_teacher - 2.0 * across


def _products(values: Tensor) -> Tensor:
    return ops.matmul(values, ops.swapaxes(values, 1, 2))
