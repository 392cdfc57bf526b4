"""Checks of the sizes that networks are asked for. Each error names the argument and the remedy."""

import numbers
from collections.abc import Sequence
from typing import Any

from keras_ats.checks import as_integer

SMALLEST_SIDE = 8
"""Pixels; what three pools of a VGG need."""


def channel_counts(value: Any, count: int) -> tuple[int, ...]:
    """Returns `widths` as a tuple, or raises if they are not `count` positive integers."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != count:
        raise ValueError(
            f"`widths` must be {count} numbers of channels. Received: widths={value!r}."
        )
    return tuple(as_integer(width, "widths") for width in value)


def image_shape(value: Any) -> tuple[int, ...]:
    """Returns `input_shape`, or raises if it is not the shape of an image that is large enough."""
    sizes = tuple(value) if isinstance(value, Sequence) else ()
    if len(sizes) != 3 or any(
        isinstance(size, bool) or not isinstance(size, numbers.Integral) for size in sizes
    ):
        raise ValueError(
            "`input_shape` must be three integers: height, width, channels, such as (32, 32, 3). "
            f"Received: input_shape={value!r}."
        )
    if min(sizes[:2]) < SMALLEST_SIDE or sizes[2] < 1:
        raise ValueError(
            f"Images must be at least {SMALLEST_SIDE} pixels high and wide, channels last. "
            f"Received: input_shape={value!r}. Transpose images whose channels come first; "
            "enlarge smaller ones."
        )
    return tuple(int(size) for size in sizes)


def blocks_per_stage(depth: Any, layers_per_block: int, other_layers: int, family: str) -> int:
    """Returns how many blocks each of the three stages has, or raises if `depth` allows none."""
    step = 3 * layers_per_block
    blocks, left = divmod(as_integer(depth, "depth") - other_layers, step)
    if left or blocks < 1:
        first = step + other_layers
        nearest = first + step * max(0, round((depth - first) / step))
        examples = ", ".join(str(first + step * i) for i in range(4))
        raise ValueError(
            f"The depth of a {family} is {step}n + {other_layers}: {examples}, ... Received: "
            f"depth={depth!r}. The nearest is {nearest}."
        )
    return blocks
