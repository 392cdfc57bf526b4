"""What every reader of a published data set takes and gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_ats.data.arrays import Array
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor


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


class Reader:
    """Fills arrays from batches, and knows how far it came when a batch cannot be read.

    Args:
        count: Samples to come.
        shape: Of a sample.
        dtype: Of the features.
        verbose: Whether to show progress.
    """

    def __init__(self, count: int, shape: tuple[int, ...], dtype: str, verbose: bool) -> None:
        self.split = Split(np.empty((count, *shape), dtype), np.empty(count, np.int32))
        self.done = 0
        self.progress = keras.utils.Progbar(
            count, verbose=int(verbose), interval=1.0, unit_name="sample"
        )

    def read(self, batches: Iterable[tuple[Array, Array]]) -> Split:
        """Reads all batches of features and labels.

        Args:
            batches: Features `(batch, ...)` and labels `(batch,)`.

        Returns:
            One array of each.

        Raises:
            ValueError: If they end too early.
        """
        count = len(self.split.labels)
        for features, labels in batches:
            end = self.done + len(labels)
            self.split.features[self.done : end] = features
            self.split.labels[self.done : end] = labels
            self.done = end
            self.progress.update(end)
        if self.done != count:
            raise ValueError(f"no more samples, {self.done} of {count}.")
        return self.split


def square(image: Tensor, size: int) -> Tensor:
    """Cuts the largest square out of the middle and scales it.

    Args:
        image: Shape `(height, width, channels)`, uint8.
        size: Height and width to come to.

    Returns:
        Shape `(size, size, channels)`, uint8. Bilinear, smoothed where it shrinks.
    """
    tf = import_tensorflow()
    shape = tf.shape(image)
    edge = tf.minimum(shape[0], shape[1])
    image = tf.image.crop_to_bounding_box(
        image, (shape[0] - edge) // 2, (shape[1] - edge) // 2, edge, edge
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)


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
