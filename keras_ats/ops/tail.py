"""The classes that were not stored, as one number at any temperature."""

import math

from keras import ops

from keras_ats.ops.arguments import as_factor, as_rows
from keras_ats.types import Tensor

_SHIFT = 0.2
_NODES = 8
HIGHEST = 2.0
"""Largest inverse temperature that a tail can be had at: temperatures from 0.5 up."""


def _inverse_temperatures() -> tuple[float, ...]:
    low, high = math.log(_SHIFT), math.log(HIGHEST + _SHIFT)
    places = [-math.cos((2 * i + 1) * math.pi / (2 * _NODES)) for i in range(_NODES)]
    return tuple(math.exp((low + high) / 2 + (high - low) / 2 * place) - _SHIFT for place in places)


TAIL_NODES = _inverse_temperatures()
"""The inverse temperatures at which a tail is stored: Chebyshev nodes of log(1/T + 0.2)."""


def tail_log_sum_exp(tail: Tensor, count: Tensor, mean: Tensor, temperature: Tensor) -> Tensor:
    r"""Log of the sum over the tail of $\exp(f_c / T)$, for any temperature from 0.5 up.

    A teacher of many classes is stored by its largest logits. What the others weigh depends on the
    temperature, which is not known yet; left out, or spread evenly, they are wrong by up to all of
    the probability. So their sum is stored at eight inverse temperatures and interpolated by one
    polynomial in $\log(1/T + 0.2)$, through these and the value at $1/T = 0$, the log of their
    number, which makes it exact for large $T$. What is interpolated is a convex function of $1/T$,
    so it lies below its chords and above their extensions; where the polynomial does not, they win.
    The share of the tail in a row is then wrong by at most 0.001 for logits drawn from normal
    (deviation up to 6) and exponential distributions, by 0.002 for uniform ones (over 40), and by
    0.01 for heavier ones (t with 3 degrees of freedom).

    Args:
        tail: Float tensor of shape `(..., 8)`: the log of the sum at the inverse temperatures
            `ops.TAIL_NODES`.
        count: How many classes there are in the tail, `(...,)`; those of minus infinity do not
            count.
        mean: Mean of their logits, `(...,)`.
        temperature: Above 0, a scalar.

    Returns:
        float32 tensor of shape `(...,)`; NaN for a temperature below 0.5, which cannot be had.

    Raises:
        ValueError: If `tail` has not eight values per row.

    Example:

    ```python
    tail = np.log(50.0) * np.ones((1, 8))  # 50 classes whose logits are 0
    keras_ats.ops.tail.tail_log_sum_exp(tail, [50.0], [0.0], 4.0)  # [3.912]
    ```
    """
    tail = as_rows(tail, "tail")
    if tail.shape[-1] != _NODES:
        raise ValueError(
            f"`tail` must have {_NODES} values per row. Received: shape {tuple(tail.shape)}. "
            "Expected: the log of the tail's sum at each of keras_ats.ops.TAIL_NODES."
        )
    inverse = 1.0 / as_factor(temperature, "temperature", ())
    at_zero = ops.log(ops.maximum(ops.cast(count, "float32"), 1.0))
    values = [at_zero, *(tail[..., i] for i in range(_NODES))]
    total: Tensor = 0.0
    for weight, value in zip(_interpolation(inverse), values, strict=True):
        total = total + weight * value
    lowest, highest = _chords(inverse, values, at_zero + ops.cast(mean, "float32") * inverse)
    total = ops.minimum(ops.maximum(total, lowest), highest)
    # Rounding of a temperature of exactly 0.5 is let pass.
    return ops.where(inverse <= HIGHEST * (1 + 1e-6), total, float("nan"))


def _interpolation(inverse: Tensor) -> list[Tensor]:
    """Lagrange's weights of 0 and of the nodes, at an inverse temperature."""
    place = ops.log(inverse + _SHIFT)
    nodes = [math.log(one + _SHIFT) for one in (0.0, *TAIL_NODES)]
    weights = []
    for i, own in enumerate(nodes):
        weight: Tensor = 1.0
        for j, other in enumerate(nodes):
            if i != j:
                weight = weight * (place - other) / (own - other)
        weights.append(weight)
    return weights


def _chords(inverse: Tensor, values: list[Tensor], lowest: Tensor) -> tuple[Tensor, Tensor]:
    """What a convex, falling function is at least and at most, given its values at the nodes.

    Args:
        inverse: Where.
        values: At 0 and at the nodes, rising.
        lowest: What it is at least for another reason, the tangent at 0.
    """
    nodes = (0.0, *TAIL_NODES)
    highest = values[-1]  # Behind the last node.
    for i in range(_NODES):
        slope = (values[i + 1] - values[i]) / (nodes[i + 1] - nodes[i])
        line = values[i] + slope * (inverse - nodes[i])
        is_within = ops.logical_and(inverse >= nodes[i], inverse < nodes[i + 1])
        highest = ops.where(is_within, line, highest)
        lowest = ops.where(is_within, lowest, ops.maximum(lowest, line))
    return lowest, ops.maximum(lowest, highest)
