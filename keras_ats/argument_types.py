"""Numbers as users pass them: Python's, NumPy's, and slips such as `True` or `"4"`."""

import numbers
from typing import Any


def as_integer(value: Any, name: str, minimum: int = 1) -> int:
    """Returns `value` as an int, or raises if it is not a whole number of at least `minimum`."""
    # bool is an int to Python; a depth of True is a slip.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` must be an integer of at least {minimum}. Received: {name}={value!r} of "
            f"type {type(value).__name__}."
        )
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value!r}.")
    return int(value)


def as_number(value: Any, name: str, expected: str = "a number") -> float:
    """Returns `value` as a float, or raises if it is not a real number; any range is allowed."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    return float(value)
