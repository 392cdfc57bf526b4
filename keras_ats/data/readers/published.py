"""What every reader of a published data set takes and gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_ats.data.arrays import Array


@dataclass(frozen=True)
class Request:
    """What is to be read, and from where.

    Args:
        name: Of the data set, as in `load`.
        data_dir: Folder; None for the one that TFDS uses by itself.
        size: Height and width of the images, or frames and bins of the spectrograms.
        num_classes: As published.
        with_validation: Whether a published validation split is wanted.
        verbose: Whether to show progress.
    """

    name: str
    data_dir: Path | None
    size: int
    num_classes: int
    with_validation: bool
    verbose: bool


class Split(NamedTuple):
    """Features `(n, height, width, channels)` and labels `(n,)`, in the published order."""

    features: Array
    labels: Array


class Published(NamedTuple):
    """The splits by name, "train" and "test" and maybe "validation", and the class names."""

    splits: dict[str, Split]
    class_names: tuple[str, ...]


def check_classes(published: Published, request: Request) -> None:
    """Raises if a split has a class without samples, or labels that are no class."""
    expected = np.arange(request.num_classes)
    for split, (_, labels) in published.splits.items():
        present = np.unique(labels)
        if not np.array_equal(present, expected):
            missing = [published.class_names[label] for label in np.setdiff1d(expected, present)]
            raise ValueError(
                f"The {split} split of {request.name} must have samples of all "
                f"{request.num_classes} classes. Received: no sample of {missing}; labels that are "
                f"no class: {np.setdiff1d(present, expected).tolist()}. The copy in "
                f"{request.data_dir or 'the default folder'} is not whole: get it again."
            )
