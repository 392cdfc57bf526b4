"""How many batches an epoch has."""

import math

from keras_ats.checks import as_boolean, as_integer


def number_of_batches(samples: int, batch_size: int, drop_remainder: bool) -> int:
    """Returns the number of batches of so many samples.

    Args:
        samples: How many there are.
        batch_size: Samples in a batch.
        drop_remainder: Whether a last, smaller batch is left out.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no whole batch and smaller ones are left out.
    """
    batch_size = as_integer(batch_size, "batch_size", 1)
    drop_remainder = as_boolean(drop_remainder, "drop_remainder")
    if drop_remainder and batch_size > samples:
        raise ValueError(
            f"There is no whole batch. Received: batch_size={batch_size} for {samples} "
            "samples, with drop_remainder=True. Take smaller batches, or keep the remainder."
        )
    return samples // batch_size if drop_remainder else math.ceil(samples / batch_size)
