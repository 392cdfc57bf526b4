"""Arrays filled batch after batch."""

from collections.abc import Iterable

import keras
import numpy as np

from keras_ats.data.arrays import Array
from keras_ats.data.readers.published import Split


class BatchReader:
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
