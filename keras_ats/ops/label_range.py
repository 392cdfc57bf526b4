"""Labels that cannot be meant, and positions whose label says that they are to be left out."""

import math

from keras import ops
from keras.backend import standardize_dtype

from keras_ats.ops.labels import are_class_ids, shapes_fit
from keras_ats.ops.positions import weights_of_positions
from keras_ats.types import Tensor

# Rows of mixup and of bfloat16 may leave [0, 1] by rounding.
ROUNDING = 1e-2


def invalid_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """Where labels are out of range: ids outside `[0, C)`, rows with entries outside `[0, 1]`.

    Args:
        labels: Labels in any form of `label_distribution`.
        logits: Tensor of shape `(..., C)`; only its shape is used.

    Returns:
        Bool tensor of shape `(...,)`.
    """
    labels = ops.convert_to_tensor(labels)
    if not are_class_ids(labels, logits):
        return invalid_rows(ops.cast(labels, "float32"))
    if len(labels.shape) == len(logits.shape):
        labels = ops.squeeze(labels, axis=-1)
    return _invalid_ids(labels, logits.shape[-1])


def _invalid_ids(ids: Tensor, num_classes: int) -> Tensor:
    dtype = standardize_dtype(ids.dtype)
    if "float" in dtype:
        # Written so that NaN is invalid too.
        within = ops.logical_and(ids >= 0, ids < num_classes)
        return ops.logical_not(ops.logical_and(within, ids == ops.floor(ids)))
    # Long ids would wrap into the range; short ones cannot be compared with many classes.
    if dtype not in ("int64", "uint32", "uint64"):
        ids = ops.cast(ids, "int32")
    return (ids < 0) | (ids >= num_classes)


def invalid_rows(rows: Tensor) -> Tensor:
    """Which float32 rows have entries outside `[0, 1]`, shape `(...,)`."""
    return ops.any(ops.abs(rows - 0.5) > 0.5 + ROUNDING, axis=-1)


def nan_where_invalid(
    value: Tensor, invalid: Tensor, sample_weight: Tensor | None, mask: Tensor | None
) -> Tensor:
    """A loss, made NaN where a position that counts has an invalid label.

    Neither a graph nor an accelerator can raise an error without waiting for the batch, and a
    wrong label taken for no label would train on without a word. Every log shows NaN, and
    `keras.callbacks.TerminateOnNaN` stops there; gradients stay finite, so that the weights live.

    Args:
        value: float32 scalar, or one value per position.
        invalid: Bool tensor of shape `(...,)`.
        sample_weight: As for `weights_of_positions`; positions of weight 0 do not count.
        mask: Bool tensor of shape `(...,)`, True for valid positions, or None.

    Returns:
        float32 tensor of the shape of `value`.
    """
    weights = weights_of_positions(sample_weight, invalid)
    if weights is not None:
        invalid = ops.logical_and(invalid, weights != 0)
    if mask is not None:
        invalid = ops.logical_and(invalid, mask)
    if len(value.shape) < len(invalid.shape):
        invalid = ops.any(invalid)
    return ops.where(invalid, math.nan, value)


def has_label(labels: Tensor, logits: Tensor, ignored: int) -> Tensor | None:
    """Which positions have another class id than the ignored one.

    Args:
        labels: Labels in any form of `label_distribution`; of a single unit one per position.
        logits: Tensor of shape `(..., C)`; only its shape is used.
        ignored: The id that marks positions to leave out.

    Returns:
        Bool tensor of shape `(...,)`; None for rows, which name no class that could be ignored.
    """
    labels = ops.convert_to_tensor(labels)
    is_single_unit = logits.shape[-1] == 1 and shapes_fit(tuple(labels.shape), tuple(logits.shape))
    if not is_single_unit and not are_class_ids(labels, logits):
        return None
    if len(labels.shape) == len(logits.shape):
        labels = ops.squeeze(labels, axis=-1)
    return ops.cast(labels, "int32") != ignored
