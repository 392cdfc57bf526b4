"""Mean and standard deviation of each channel, computed or as published."""

import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_ats.data.arrays import Array

Channels: TypeAlias = tuple[float, ...]
Statistics: TypeAlias = str | tuple[Sequence[float], Sequence[float]]

PUBLISHED: dict[str, tuple[Channels, Channels]] = {
    # Over all pixels of train. Others divide by (0.2023, 0.1994, 0.2010), the mean of the
    # deviations within single images.
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    # RepDistiller (Tian et al., 2020), and the many distillation papers that follow it.
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    # The authors' read-me file (Darlow et al., 2018).
    "cinic10": ((0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835)),
    # mdistiller (Zhao et al., 2022).
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}
# torchvision's, which the code of the ATS paper uses for CIFAR-100.
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scale_of(features: Array) -> float:
    """What features are divided by before their mean is taken: 255 for bytes."""
    return 255.0 if features.dtype == np.uint8 else 1.0


def channel_statistics(features: Array, chunk: int = 1024) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, after division by `scale_of(features)`.

    Args:
        features: Shape `(n, ..., channels)`.
        chunk: Samples that are held in float64 at a time.

    Returns:
        The means and the deviations, one number per channel. A constant channel gets deviation 1,
        so that it can be divided by.
    """
    channels = features.shape[-1]
    total, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(features), chunk):
        rows = features[start : start + chunk].reshape(-1, channels).astype(np.float64)
        total += rows.sum(axis=0)
        squares += np.square(rows).sum(axis=0)
    count = features[..., 0].size
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0)) / scale_of(features)
    deviation[deviation == 0.0] = 1.0
    return tuple(map(float, mean / scale_of(features))), tuple(map(float, deviation))


def chosen_statistics(choice: Statistics, features: Array, name: str) -> tuple[Channels, Channels]:
    """The statistics that a user's `statistics` argument asks for.

    Args:
        choice: "computed", "published", "imagenet", or the pair `(mean, std)`.
        features: The samples that "computed" looks at.
        name: Of the data set, for "published".

    Returns:
        The means and the deviations, one number per channel.

    Raises:
        ValueError: If the choice is unknown, or does not fit the data.
    """
    if isinstance(choice, str) and choice == "computed":
        return channel_statistics(features)
    known = {"imagenet": IMAGENET, "published": PUBLISHED.get(name)}
    pair = known.get(choice) if isinstance(choice, str) else choice
    if isinstance(pair, tuple) and len(pair) == 2:
        return checked_statistics(*pair, features.shape[-1])
    raise ValueError(
        "`statistics` must be 'computed', 'imagenet', 'published' (known for "
        f"{sorted(PUBLISHED)}) or a tuple (mean, std). Received: statistics={choice!r} for "
        f"'{name}'."
    )


def checked_statistics(mean: Any, std: Any, channels: int) -> tuple[Channels, Channels]:
    """Returns both as floats, or raises if they are not one fitting number per channel."""
    if not (_is_one_each(mean, channels) and _is_one_each(std, channels) and min(std) > 0):
        raise ValueError(
            f"Mean and std need {channels} number(s) each, one per channel and finite; std must be "
            f"above 0. Received: mean={mean!r}, std={std!r}. `statistics='computed'`, the default "
            "of `load` and `Samples.from_arrays`, fits any data."
        )
    return tuple(map(float, mean)), tuple(map(float, std))


def _is_one_each(values: Any, channels: int) -> bool:
    is_list = isinstance(values, Sequence | np.ndarray) and getattr(values, "ndim", 1) == 1
    return is_list and len(values) == channels and all(map(_is_finite_number, values))


def _is_finite_number(value: Any) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and bool(np.isfinite(float(value)))
