"""When a callback saves."""

from typing import Any

from keras_ats.checks import as_integer


def as_save_freq(value: Any) -> str | int:
    """Returns `value`, or raises if it is neither `"epoch"` nor a number of batches."""
    return value if isinstance(value, str) and value == "epoch" else as_integer(value, "save_freq")
