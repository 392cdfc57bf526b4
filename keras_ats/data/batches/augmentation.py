"""Which augmentation samples get: crops and flips for images, shifts in time for spectrograms."""

from keras_ats.checks import as_integer
from keras_ats.data.batches.transforms import Transform, crop_and_flip, shift_in_time


def augmentation(kind: str, shape: tuple[int, ...], padding: int, seed: int) -> Transform:
    """The transform that augments samples of a kind, or raises if they have not its axes.

    Args:
        kind: "images" or "spectrograms".
        shape: Of the features.
        padding: Pixels or frames, checked.
        seed: Of the draws, checked.

    Returns:
        A transform that keeps shape and dtype.
    """
    if len(shape) != 4:
        raise ValueError(
            "Augmentation needs features of shape (n, height, width, channels). Received: "
            f"{shape}. Leave out augment=True."
        )
    return crop_and_flip(padding, seed) if kind == "images" else shift_in_time(padding, seed)


def checked_padding(padding: int | None, kind: str, shape: tuple[int, ...]) -> int:
    """Returns the padding, by default a share of the height or frames, or raises if it is none."""
    side = shape[1]
    if padding is None:
        return side // (8 if kind == "images" else 10)
    padding = as_integer(padding, "padding", 0)
    if padding >= side:
        raise ValueError(
            f"`padding` must be below {side}, the height or the number of frames, or nothing is "
            f"left to see of some samples. Received: padding={padding}."
        )
    return padding
