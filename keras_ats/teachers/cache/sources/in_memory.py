"""Samples, and arrays without augmentation."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ats.checks import as_boolean
from keras_ats.data.batches.augmentation import augmentation, checked_padding
from keras_ats.data.batches.mixing import as_mixing
from keras_ats.data.samples import Samples
from keras_ats.teachers.cache.sources.source import (
    Chosen,
    Seen,
    Source,
    checked_ids,
    fingerprints,
    rows_of,
    without_none,
)
from keras_ats.types import Config, Nested

# Raised whenever the same seed, view and id would give another picture.
AUGMENTATION_VERSION = 1


class FromSamples(Source):
    """`keras_ats.data.Samples`, whose views are a pure function of seed, view and id.

    Args:
        samples: The samples.
        augment: As for `Samples.batches`, and so are the others.
        padding: Likewise.
        seed: Likewise.
        mixup: Likewise.
        cutmix: Likewise.
    """

    kind = "samples"

    def __init__(
        self,
        samples: Samples,
        augment: bool = True,
        padding: int | None = None,
        seed: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        self.samples = samples
        self.options: Config = {
            "augment": augment,
            "padding": padding,
            "seed": seed,
            "mixup": mixup,
            "cutmix": cutmix,
        }
        shape = samples.features.shape
        mixing = as_mixing(mixup, cutmix, shape)
        padding = checked_padding(padding, samples.kind, shape)
        if as_boolean(augment, "augment"):
            augmentation(samples.kind, shape, padding, seed)  # Raises if it does not fit.
        self.is_random = bool(augment) or bool(mixing)
        # The same picture, whether the default was left out or given.
        self.options["padding"] = padding if augment else None
        self.ids = samples.ids
        self.fingerprints = fingerprints(samples.features, samples.labels)

    def description(self) -> Config:
        """Returns what the manifest says of the data."""
        return {
            "name": self.samples.name,
            "mean": list(self.samples.mean),
            "std": list(self.samples.std),
            "classes": len(self.samples.class_names),
        }

    def augmentation(self) -> Config:
        """Returns what the manifest says of how views are made."""
        return {
            **self.options,
            "kind": self.samples.kind,
            "seed": self.options["seed"] if self.is_random else None,
            "version": AUGMENTATION_VERSION,
        }

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows samples."""
        dataset = self.samples._batches(
            lambda features, labels, ids, view: (features, labels),
            batch_size=1,
            chosen=chosen,
            **self.options,
        )
        for features, labels in dataset.as_numpy_iterator():
            yield Seen(features, labels)


class FromArrays(Source):
    """Arrays as they are: one view.

    Args:
        inputs: An array, or a dict, list or tuple of them.
        labels: An array, or None.
        ids: As in `Source`; None numbers the samples.
    """

    kind = "arrays"

    def __init__(self, inputs: Nested, labels: Any = None, ids: Any = None) -> None:
        self.inputs = keras.tree.map_structure(np.asarray, inputs)
        self.labels = None if labels is None else keras.tree.map_structure(np.asarray, labels)
        lengths = {len(leaf) for leaf in without_none([self.inputs, self.labels]) if leaf.ndim}
        if len(lengths) != 1 or not min(lengths):
            raise ValueError(
                "`data` must be arrays with the same number of samples, at least one. Received: "
                f"lengths {sorted(lengths)}. Expected: data=(x, y)."
            )
        self.ids = checked_ids(ids, lengths.pop())
        self.fingerprints = fingerprints(self.inputs)

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows samples."""
        for _, places in chosen:
            yield Seen(rows_of(self.inputs, places), rows_of(self.labels, places))
