"""When a callback saves."""

from typing import Any

from keras_ats.checks import as_integer


def as_save_freq(value: Any) -> str | int:
    """Returns `value`, or raises if it is neither `"epoch"` nor a number of batches."""
    if isinstance(value, str):
        if value == "epoch":
            return value
        raise ValueError(
            f"`save_freq` must be 'epoch' or a number of batches. Received: save_freq={value!r}."
        )
    return as_integer(value, "save_freq")
