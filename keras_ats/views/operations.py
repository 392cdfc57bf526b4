"""Operations that may stand after the logits, or after their activation, without hiding them."""

from typing import Any

from keras_ats.views.activations import has_own_call

# At inference these return their input, so what ends in front of them is the model's ending.
_UNCHANGING = frozenset(
    {"Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Cast"}
)
# These put values in other places. Layers and operations of `keras.ops` share many names.
_MOVING = frozenset(
    {
        "Concatenate", "Cropping1D", "Cropping2D", "Cropping3D", "ExpandDims", "Flatten", "GetItem",
        "Permute", "RepeatVector", "Reshape", "Squeeze", "Transpose", "UpSampling1D",
        "UpSampling2D", "UpSampling3D",
    }
)  # fmt: skip
# These make sums of them, so logits stay logits; a mean of probabilities has none.
_SUMMING = frozenset(
    {
        "Add", "Average", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
        "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "Mean",
        "Resize", "Subtract",
    }
)  # fmt: skip


def is_unchanging(operation: Any) -> bool:
    """Whether an operation returns what it is given, at inference."""
    is_identity = type(operation).__name__ in _UNCHANGING and not has_own_call(operation)
    # A regulariser would see logits where it sees probabilities now.
    return is_identity and getattr(operation, "activity_regularizer", None) is None


def is_linear(operation: Any) -> bool:
    """Whether what an operation makes of logits are logits."""
    name = type(operation).__name__
    if has_own_call(operation) or name not in _MOVING | _SUMMING:
        return False
    # A mean over the classes leaves none.
    return name != "Mean" or _spares_last_axis(operation.axis)


def is_exchangeable(operation: Any, node: Any, activation: str) -> bool:
    """Whether an operation may come before an activation as well as after it.

    Args:
        operation: A layer or operation.
        node: Its call in the graph.
        activation: Name of the activation.
    """
    name = type(operation).__name__
    mixes = getattr(operation, "interpolation", "nearest") != "nearest"
    if has_own_call(operation) or name not in _MOVING or mixes:
        return False
    if getattr(operation, "activity_regularizer", None) is not None:
        return False
    return "sigmoid" in activation or _keeps_rows(operation, name, node)


def _keeps_rows(operation: Any, name: str, node: Any) -> bool:
    """Whether the classes stay together and in order, on the last axis."""
    if getattr(operation, "data_format", None) == "channels_first":
        return False
    if name in ("Reshape", "Flatten", "Squeeze", "ExpandDims"):
        before, after = node.input_tensors[0].shape[-1], node.outputs[0].shape[-1]
        # Of one class, and of a number that is not known, it cannot be told.
        return before == after and after not in (None, 1)
    if name == "Permute":
        return bool(operation.dims[-1] == len(operation.dims))
    if name == "Transpose":
        return operation.axes is not None and operation.axes[-1] in (-1, len(operation.axes) - 1)
    if name == "Concatenate":
        return operation.axis not in (-1, len(node.outputs[0].shape) - 1)
    return name != "GetItem"


def _spares_last_axis(axis: Any) -> bool:
    axes = [axis] if isinstance(axis, int) else axis
    return axes is not None and all(isinstance(one, int) and one >= 0 for one in axes)
