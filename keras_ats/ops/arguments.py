"""Arguments of tensor functions, looked at by type and shape.

Values within tensors are not looked at: that would wait for the device in every step. Nothing here
costs a compiled step anything.
"""

import numbers
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_ats import checks
from keras_ats.types import Shape, Tensor


def as_floats(values: Any, name: str) -> Tensor:
    """Returns `values` as a float32 tensor, or raises if they are not real numbers."""
    check_numeric(values, name)
    return ops.cast(values, "float32")


def as_rows(values: Any, name: str) -> Tensor:
    """Returns `values` as a float32 tensor of shape `(..., C)`, or raises if there is no C."""
    rows = as_floats(values, name)
    if not len(rows.shape) or rows.shape[-1] == 0:
        raise ValueError(
            f"`{name}` must have its classes on the last axis, at least one. Received: {name} of "
            f"shape {tuple(rows.shape)}. Expected: shape (..., C), such as (batch, classes)."
        )
    return rows


def as_factor(
    value: Any,
    name: str,
    shape: Shape | None,
    check: Callable[[Any, str], float] = checks.temperature,
) -> Tensor:
    """Returns a temperature or a weight as float32, or raises if it cannot act on `shape`.

    Args:
        value: A number, which must pass `check`, or numbers that broadcast.
        name: Name of the argument.
        shape: The shape that it must broadcast against; None for any.
        check: A function of `keras_ats.checks`. Defaults to `temperature`.
    """
    is_tensor = hasattr(value, "shape") and not isinstance(value, numbers.Number)
    if not is_tensor and not isinstance(value, list | tuple):
        return ops.cast(check(value, name), "float32")
    factor = as_floats(value, name)
    if shape is not None:
        check_broadcast(factor, name, shape)
    return factor


def as_mask(mask: Any, name: str, shape: Shape) -> Tensor:
    """Returns a mask as 0 and 1, float32, or raises if it does not say which of `shape` counts."""
    if not hasattr(mask, "shape") and not isinstance(mask, list | tuple):
        raise TypeError(
            f"`{name}` must be a bool tensor, True for what counts. Received: {name}={mask!r} of "
            f"type {type(mask).__name__}."
        )
    check_numeric(mask, name)
    mask = ops.cast(ops.cast(mask, "bool"), "float32")
    check_broadcast(mask, name, shape)
    return mask


def check_broadcast(values: Tensor, name: str, shape: Shape) -> None:
    """Raises if `values` do not broadcast against `shape`, as far as both are known."""
    own = tuple(values.shape)
    fits = len(own) <= len(shape) and all(
        a == 1 or a is None or b is None or a == b
        for a, b in zip(reversed(own), reversed(tuple(shape)), strict=False)
    )
    if not fits:
        raise ValueError(
            f"`{name}` must fit the shape {tuple(shape)}. Received: {name} of shape {own}. "
            "Expected: that shape, or one with axes of size 1 in it."
        )


def check_same_rows(one: Tensor, other: Tensor, name: str, other_name: str) -> None:
    """Raises if two tensors of rows do not broadcast against each other."""
    shapes = tuple(one.shape), tuple(other.shape)
    if any(
        a not in (1, None) and b not in (1, None) and a != b
        for a, b in zip(reversed(shapes[0]), reversed(shapes[1]), strict=False)
    ):
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same shape. Received: {name} of shape "
            f"{shapes[0]} and {other_name} of shape {shapes[1]}."
        )


def check_numeric(values: Any, name: str) -> None:
    """Raises if `values` are not real numbers, or lists of them."""
    if not _is_numeric(values):
        raise TypeError(
            f"`{name}` must be a tensor of real numbers, or lists of them. Received: "
            f"{name}={values!r} of type {type(values).__name__}."
        )


def _is_numeric(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return all(map(_is_numeric, values))
    if isinstance(values, numbers.Number):
        return isinstance(values, numbers.Real)
    if not hasattr(values, "dtype") or not hasattr(values, "shape"):
        return False
    try:
        dtype = keras.backend.standardize_dtype(values.dtype)
    except ValueError:  # Strings and objects have no counterpart among Keras's types.
        return False
    return not dtype.startswith(("complex", "str"))
