"""Numbers and strings as users pass them: Python's, NumPy's, and slips such as `True` or `"4"`.

Each check returns the value in its plain form, or raises with the argument's name, what was
received and what was expected.
"""

import math
import numbers
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

Check: TypeAlias = Callable[[Any, str], float]
"""Takes a value and the name of its argument."""


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


def as_whole_number(value: Any, name: str) -> int:
    """Returns `value` as an int, or raises if it is not a whole number; any sign is allowed."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` must be a whole number, such as -100. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    return int(value)


def as_number(value: Any, name: str, expected: str = "a number") -> float:
    """Returns `value` as a float, or raises if it is not a real number; any range is allowed."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    return float(value)


def as_boolean(value: Any, name: str) -> bool:
    """Returns `value` as a bool, or raises if it is neither true nor false; 1 and 0 will do."""
    is_number = isinstance(value, numbers.Integral) and value in (0, 1)
    if not isinstance(value, bool | np.bool_) and not is_number:
        raise TypeError(
            f"`{name}` must be True or False. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    return bool(value)


def finite_number(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not a finite number."""
    number = as_number(value, name)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number. Received: {name}={value!r}.")
    return number


def positive_number(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not a finite number above zero."""
    number = as_number(value, name, "a number above 0, such as 4.0")
    if number <= 0 or not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number above 0. Received: {name}={value!r}.")
    return number


def temperature(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it cannot be a temperature."""
    try:
        return positive_number(value, name)
    except ValueError as error:
        raise ValueError(
            f"{error} Temperatures divide logits: 1.0 leaves them as they are, larger values "
            "soften."
        ) from None


def non_negative_number(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is negative or not finite."""
    number = as_number(value, name, "a number of at least 0, such as 1.0")
    if number < 0 or not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number of at least 0. Received: {name}={value!r}."
        )
    return number


def fraction(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not within [0, 1]."""
    number = as_number(value, name, "a number from 0 to 1, such as 0.5")
    if not 0 <= number <= 1:
        raise ValueError(f"`{name}` must be within [0, 1]. Received: {name}={value!r}.")
    return number


def inner_fraction(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not above 0 and below 1."""
    number = as_number(value, name, "a number above 0 and below 1, such as 0.5")
    if not 0 < number < 1:
        raise ValueError(f"`{name}` must be above 0 and below 1. Received: {name}={value!r}.")
    return number


def one_of(value: Any, name: str, allowed: Sequence[str]) -> str:
    """Returns `value`, or raises if it is none of the `allowed` strings."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"`{name}` must be one of {list(allowed)}. Received: {name}={value!r}.")
    return value


def as_string(value: Any, name: str, expected: str) -> str:
    """Returns `value`, or raises if it is no string or an empty one.

    Args:
        value: What was given.
        name: Name of its argument.
        expected: What is expected, for the message, such as `"the name of a log"`.
    """
    if not isinstance(value, str):
        raise TypeError(
            f"`{name}` must be a string, {expected}. Received: {name}={value!r} of type "
            f"{type(value).__name__}."
        )
    if not value:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}.")
    return value


def as_list(value: Any, name: str, expected: str) -> list[Any]:
    """Returns the entries of a list or tuple, or raises if `value` is neither.

    Args:
        value: What was given.
        name: Name of its argument.
        expected: What is expected, for the message, such as `"[first, second]"`.
    """
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"`{name}` must be a list. Received: {name}={value!r} of type {type(value).__name__}. "
            f"Expected: {expected}."
        )
    return list(value)


def check_function(value: Any, name: str, expected: str) -> None:
    """Raises if `value` cannot be called.

    Args:
        value: What was given.
        name: Name of its argument.
        expected: What it does, for the message.
    """
    if not callable(value):
        raise TypeError(
            f"`{name}` must be a function. Received: {name}={value!r} of type "
            f"{type(value).__name__}. Expected: {expected}."
        )


def snake_case(name: str) -> str:
    """Returns `name` in snake case; acronyms stay one word: `LogitMSE` is `logit_mse`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def is_endless(data: Any) -> bool:
    """Returns whether data for `fit` are known never to end."""
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality):  # of a tf.data.Dataset, which says -1
        return int(cardinality()) == -1
    # Of a keras.utils.PyDataset; what says nothing of the kind is taken to end.
    return getattr(data, "num_batches", 0) is None
