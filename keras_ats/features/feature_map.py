"""What one layer says of a batch, and which of its positions count."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from keras import ops

from keras_ats.ops.feature_maps import average_pooled, smaller_sizes
from keras_ats.ops.labels import shapes_fit
from keras_ats.types import Shape, Tensor

_LEAST_SHARE = 1e-6


class FeatureMap(NamedTuple):
    """What one layer of one model says of a batch.

    Attributes:
        values: float32 tensor of shape `(B, ..., C)`, channels last, 0 where masked.
        mask: Bool tensor of shape `(B, ...)`, True for valid positions, or None.
    """

    values: Tensor
    mask: Tensor | None = None


def masked(values: Tensor, masks: Iterable[Any]) -> FeatureMap:
    """Returns what a layer says, cleared where the first mask that has its positions says so.

    Args:
        values: Tensor of shape `(B, ..., C)`.
        masks: Masks in question, tensors or None.
    """
    for mask in masks:
        if mask is None or isinstance(mask, dict):
            continue
        if 1 < len(mask.shape) == len(values.shape) - 1 and shapes_fit(
            tuple(mask.shape), tuple(values.shape)[:-1]
        ):
            mask = ops.cast(mask, "bool")
            # A padded position may hold anything, NaN included.
            return FeatureMap(ops.where(ops.expand_dims(mask, -1), values, 0.0), mask)
    return FeatureMap(values)


def alike(
    student: FeatureMap, teacher: FeatureMap, sizes: Shape | None = None
) -> tuple[FeatureMap, FeatureMap]:
    """Returns two maps whose positions can be compared one by one: of one size and one mask.

    Args:
        student: What the student's layer says.
        teacher: What the teacher's layer says.
        sizes: Sizes that both are averaged to; None for the smaller ones along each axis.
    """
    if sizes is None:
        sizes = smaller_sizes(tuple(student.values.shape), tuple(teacher.values.shape))
    student, teacher = pooled(student, sizes), pooled(teacher, sizes)
    mask = common_mask(student, teacher)
    return masked(student.values, [mask]), masked(teacher.values, [mask])


def common_mask(*maps: FeatureMap) -> Tensor | None:
    """Returns where all maps that have a mask are valid; None if none has."""
    masks = [one.mask for one in maps if one.mask is not None]
    return functools.reduce(ops.logical_and, masks) if masks else None


def pooled(one: FeatureMap, sizes: Shape) -> FeatureMap:
    """Returns a map of other sizes, each cell the mean of the valid positions that it covers."""
    values = average_pooled(one.values, sizes)
    if one.mask is None or tuple(values.shape) == tuple(one.values.shape):
        return FeatureMap(values, one.mask)
    share = average_pooled(ops.cast(ops.expand_dims(one.mask, -1), "float32"), sizes)
    return FeatureMap(values / ops.maximum(share, _LEAST_SHARE), share[..., 0] > 0)
