"""A layer as one row for each sample of a batch."""

from keras import ops

from keras_ats.features.feature_loss import FeatureMap
from keras_ats.ops.feature_maps import mean_over_positions
from keras_ats.types import Tensor


def flat_rows(one: FeatureMap) -> Tensor:
    """Returns all values of a layer, `(B, D)`; 0 where masked."""
    values = one.values
    return values if len(values.shape) == 2 else ops.reshape(values, (ops.shape(values)[0], -1))


def mean_rows(one: FeatureMap) -> Tensor:
    """Returns the mean of a layer over its valid positions, `(B, C)`; a vector as it is."""
    return mean_over_positions(one.values, one.mask)
