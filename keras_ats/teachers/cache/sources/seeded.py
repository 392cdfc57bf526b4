"""Data that augments in `__getitem__`: the same view again by seeding all that it may draw from."""

import contextlib
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ats.teachers.cache.rows import Array
from keras_ats.teachers.cache.sources.source import (
    Chosen,
    Seen,
    Source,
    fingerprints,
    rows_of,
)
from keras_ats.types import Config, Nested

# Read twice before anything is computed, to see whether seeding holds them.
_TRIED = 4


@contextlib.contextmanager
def seeded(seed: int, index: int, view: int) -> Iterator[None]:
    """Seeds every generator of the process for one sample and view, and gives the states back.

    Python's, NumPy's and, where it is imported, PyTorch's. A generator that a data set holds itself
    cannot be reached.
    """
    key = np.random.SeedSequence((seed, index, view)).generate_state(4)
    torch = sys.modules.get("torch")
    states = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        None if torch is None else torch.get_rng_state(),
    )
    random.seed(int(key[0]) << 32 | int(key[1]))
    np.random.seed(key)  # noqa: NPY002
    if torch is not None:
        # Not torch.manual_seed, which would reach the devices' generators too.
        torch.default_generator.manual_seed(int(key[2]) << 32 | int(key[3]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(states[2])


class FromItems(Source):
    """A map-style dataset of PyTorch, or anything of samples with a length and `[index]`.

    Args:
        dataset: Gives `x`, or a tuple or list `(x, y)`, of one sample.
        seed: Of the views.
    """

    kind = "items"
    is_random = True

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed
        self.ids = np.arange(len(dataset))
        _check_reproducible(self, [0, len(dataset) - 1] * (_TRIED // 2))

    def augmentation(self) -> Config:
        """Returns what the manifest says of how views are made."""
        return {"seed": self.seed, "version": 1}

    def item(self, index: int, view: int) -> tuple[Nested, Any]:
        """Inputs and label of one sample, as NumPy arrays."""
        with seeded(self.seed, index, view):
            inputs, labels = inputs_and_labels(self.dataset[index])
        return as_arrays(inputs), None if labels is None else as_arrays(labels)

    def fingerprint(self, inputs: Nested) -> Array:
        """Of one sample, `(1,)`."""
        return fingerprints(keras.tree.map_structure(lambda leaf: leaf[np.newaxis], inputs))

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows samples."""
        for views, places in chosen:
            pairs = zip(places, views, strict=True)
            items = [self.item(int(place), int(view)) for place, view in pairs]
            inputs = _stacked([one for one, _ in items])
            labels = None if items[0][1] is None else _stacked([one for _, one in items])
            yield Seen(inputs, labels, fingerprints(inputs))


class FromBatches(Source):
    """A `keras.utils.PyDataset`: what is seeded is a batch, and the order of batches is its own.

    Args:
        dataset: Gives `(x, y)` or `(x, y, sample_weight)` of a batch; it must have a length, and
            all batches but the last the same size.
        seed: Of the views.
    """

    kind = "batches"
    is_random = True

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed
        count = dataset.num_batches
        if not count:
            raise ValueError(
                "The PyDataset has no number of batches. Received: "
                f"{type(dataset).__name__} without `__len__`. Give it one."
            )
        self.number = int(count)
        sizes = [_length(self.item(index, 0)[0]) for index in (0, self.number - 1)]
        self.batch_size = sizes[0]
        self.ids = np.arange((self.number - 1) * sizes[0] + sizes[1])
        _check_reproducible(self, [0, self.number - 1])

    def augmentation(self) -> Config:
        """Returns what the manifest says of how views are made."""
        return {"seed": self.seed, "version": 1, "batch_size": self.batch_size}

    def item(self, index: int, view: int) -> tuple[Nested, Any]:
        """Inputs and labels of one batch, as NumPy arrays."""
        inputs, labels, *_ = self.element(index, view)
        return inputs, labels

    def element(self, index: int, view: int) -> tuple[Any, ...]:
        """All parts of one batch, as NumPy arrays."""
        with seeded(self.seed, index, view):
            inputs, labels, *more = (*inputs_and_labels(self.dataset[index], most=3),)
        return tuple(None if one is None else as_arrays(one) for one in (inputs, labels, *more))

    def fingerprint(self, inputs: Nested) -> Array:
        """Of the samples of a batch."""
        return fingerprints(inputs)

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows samples, by making the batches that they are in."""
        size = int(self.batch_size or 1)
        for views, places in chosen:
            parts = []
            numbers = places // size
            for view, number in sorted({*zip(views.tolist(), numbers.tolist(), strict=True)}):
                inputs, labels = self.item(number, view)
                expected = min(size, len(self) - number * size)
                if _length(inputs) != expected:
                    raise ValueError(
                        "All batches but the last must have the same size. Received: "
                        f"{_length(inputs)} samples in batch {number}. Expected: {expected}."
                    )
                part = places[(views == view) & (numbers == number)] - number * size
                parts.append((rows_of(inputs, part), rows_of(labels, part)))
            inputs, labels = keras.tree.map_structure(
                lambda *leaves: None if leaves[0] is None else np.concatenate(leaves), *parts
            )
            yield Seen(inputs, labels, fingerprints(inputs))


def inputs_and_labels(element: Any, most: int = 2) -> tuple[Any, ...]:
    """The parts of what a data set gives: inputs, labels or None, and what else there may be."""
    if isinstance(element, tuple | list) and 2 <= len(element) <= most:
        return tuple(element)
    if isinstance(element, tuple | list) and len(element) > most:
        raise ValueError(
            f"A sample of `data` must be x or (x, y). Received: {len(element)} parts. Put several "
            "inputs into a dict."
        )
    return element, None


def as_arrays(values: Nested) -> Nested:
    """Values as NumPy arrays, whatever they were."""
    return keras.tree.map_structure(np.asarray, values)


def _stacked(items: list[Nested]) -> Nested:
    return keras.tree.map_structure(lambda *parts: np.stack(parts), *items)


def _length(inputs: Nested) -> int:
    return len(keras.tree.flatten(inputs)[0])


def _check_reproducible(source: Any, places: list[int]) -> None:
    """Raises if the same seed gives two pictures."""
    first, second = (
        [source.fingerprint(source.item(place, 0)[0]).tolist() for place in places]
        for _ in range(2)
    )
    if first != second:
        raise ValueError(
            f"`data`, a {type(source.dataset).__name__}, gives another sample each time, whatever "
            "is seeded. Received: two readings that differ. Let it draw from random, numpy.random "
            "or torch instead of a generator of its own, or make that from "
            "np.random.randint(2**31) within `__getitem__`."
        )
