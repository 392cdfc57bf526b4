"""Mean and standard deviation of each channel, computed or as published."""

from collections.abc import Sequence
from typing import TypeAlias

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
    if choice == "computed":
        return channel_statistics(features)
    if choice == "imagenet":
        mean, deviation = IMAGENET
    elif choice == "published" and name in PUBLISHED:
        mean, deviation = PUBLISHED[name]
    elif isinstance(choice, tuple) and len(choice) == 2:
        mean, deviation = (tuple(float(number) for number in part) for part in choice)
    else:
        raise ValueError(
            "`statistics` must be 'computed', 'imagenet', 'published' (known for "
            f"{sorted(PUBLISHED)}) or a tuple (mean, std). Received: statistics={choice!r} for "
            f"'{name}'."
        )
    channels = features.shape[-1]
    if not len(mean) == len(deviation) == channels or min(deviation) <= 0:
        raise ValueError(
            f"Mean and std need {channels} number(s) each, one per channel, and std must be above "
            f"0. Received: mean={mean}, std={deviation}. `statistics='computed'` fits any data."
        )
    return mean, deviation
