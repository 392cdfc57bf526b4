"""A `tf.data` pipeline that is the same each time, with ids or in one order."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_ats.checks import is_endless
from keras_ats.teachers.cache.rows import Array
from keras_ats.teachers.cache.sources.source import Chosen, Seen, Source, checked_ids, fingerprints
from keras_ats.types import Nested


def is_tf_dataset(data: Any) -> bool:
    """Whether this is a `tf.data.Dataset`, without importing TensorFlow."""
    return any(
        one.__module__.startswith("tensorflow.") and one.__name__ == "DatasetV2"
        for one in type(data).__mro__
    )


class FromDataset(Source):
    """Batches `(x, y, ids)`, `(x, y)` or `x`, of a dataset that ends.

    It is read twice before the teacher runs: what it gives for an id, or without ids at a place,
    must be the same both times.

    Args:
        dataset: A batched `tf.data.Dataset`.
    """

    kind = "dataset"

    def __init__(self, dataset: Any) -> None:
        if is_endless(dataset):
            raise ValueError(
                "The dataset never ends, so it has no number of samples. Received: "
                f"{type(dataset).__name__}. Leave out `repeat`; the cache's batches repeat."
            )
        self.dataset = dataset
        self.has_ids = isinstance(dataset.element_spec, tuple) and len(dataset.element_spec) == 3
        ids, first = self._read()
        self.ids = checked_ids(ids, len(ids))
        again, second = self._read()
        if not self.has_ids:
            problem = not np.array_equal(first, second)
        else:
            order, other = np.argsort(ids), np.argsort(again)
            problem = not (
                np.array_equal(ids[order], again[other])
                and np.array_equal(first[order], second[other])
            )
        if problem:
            raise ValueError(
                "The dataset gives other samples each time it is read, so a teacher's logits "
                f"cannot be kept for it. Received: a dataset {self._with_or_without_ids}. Take "
                "out what is random (shuffle, augmentation) or give each sample an id, as (x, y, "
                "ids), and augment after cache.attach, or use keras_ats.data.Samples, whose views "
                "can be made again."
            )
        self.fingerprints = first
        self._place = 0
        self._elements: Iterator[Any] | None = None

    @property
    def _with_or_without_ids(self) -> str:
        return "with ids" if self.has_ids else "without ids"

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows samples; going on where the last call ended costs no second reading."""
        for _, part in chosen:
            elements = [self._element(int(place)) for place in part]
            batch = keras.tree.map_structure(lambda *parts: np.stack(parts), *elements)
            inputs, labels, ids = parts_of(batch, self.has_ids)
            if ids is not None and not np.array_equal(ids, self.ids[part]):
                raise ValueError(
                    "The dataset gives its samples in another order each time it is read. "
                    "Received: other ids than before. Take out shuffle; shuffle what cache.attach "
                    "returns."
                )
            yield Seen(inputs, labels)

    def _element(self, place: int) -> Any:
        """The sample at a place, by reading on to it."""
        if self._elements is None or self._place > place:
            dataset = self.dataset.unbatch().skip(place)
            self._elements, self._place = dataset.as_numpy_iterator(), place
        element = next(itertools.islice(self._elements, place - self._place, None))
        self._place = place + 1
        return element

    def _read(self) -> tuple[Array, Array]:
        """Ids and fingerprints of all samples, in the order they come in."""
        ids, found, count = [], [], 0
        for element in self.dataset.as_numpy_iterator():
            inputs, _, own = parts_of(element, self.has_ids)
            found.append(fingerprints(inputs))
            size = len(found[-1])
            ids.append(np.arange(count, count + size) if own is None else np.asarray(own))
            count += size
        if not count:
            raise ValueError("The dataset is empty. Received: no batches. Expected: some.")
        return np.concatenate(ids), np.concatenate(found)


def parts_of(element: Any, has_ids: bool) -> tuple[Nested, Any, Any]:
    """Inputs, labels and ids of a batch; None for what it does not have."""
    if has_ids:
        inputs, labels, ids = element
        return inputs, labels, ids
    if isinstance(element, tuple) and len(element) == 2:
        return element[0], element[1], None
    return element, None, None
