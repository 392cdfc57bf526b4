"""A check that builders and adapters share."""

import math
from typing import Any

from keras_ats.checks import as_number


def number_within(value: Any, name: str, lowest: float, below: float = math.inf) -> float:
    """Returns `value` as a float, or raises if it is not within `[lowest, below)`."""
    number = as_number(value, name)
    if not lowest <= number < below:
        raise ValueError(
            f"`{name}` must be at least {lowest} and below {below}. Received: {name}={value!r}."
        )
    return number
