"""What a cache asks of data, whatever its kind."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np

from keras_ats.teachers.cache.rows import Array
from keras_ats.types import Config, Nested


class Chosen(NamedTuple):
    """The samples of a batch.

    Attributes:
        views: `(batch,)`, int64, rising.
        places: `(batch,)`, int64, in `Source.ids`; rising within a view.
    """

    views: Array
    places: Array


class Seen(NamedTuple):
    """What the teacher is shown of some samples.

    Attributes:
        inputs: NumPy arrays, a batch.
        labels: A NumPy array, or None.
        fingerprints: `(batch,)`, uint32, of inputs that are made anew each time; else None.
    """

    inputs: Nested
    labels: Any
    fingerprints: Array | None = None


class Source:
    """Samples that can be shown to a teacher, view by view, in one order.

    Attributes:
        kind: What the manifest calls it.
        ids: `(n,)`, int64: what tells the samples apart.
        fingerprints: `(n,)`, uint32: of each sample before augmentation; None where samples are
            made anew each time.
        is_random: Whether views differ.
        batch_size: Rows of a batch where the data decides it; None where anyone may.
    """

    kind: ClassVar[str] = ""
    ids: Array
    fingerprints: Array | None = None
    is_random: bool = False
    batch_size: int | None = None

    def description(self) -> Config:
        """Returns what the manifest says of the data, without ids and fingerprints."""
        return {}

    def augmentation(self) -> Config:
        """Returns what the manifest says of how views are made."""
        return {}

    def batches(self, chosen: Iterable[Chosen]) -> Iterator[Seen]:
        """Shows batches of samples, in the order that they are chosen."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.ids)


def fingerprints(arrays: Nested, *more: Any) -> Array:
    """Returns a number for each sample that its content decides, `(n,)`, uint32.

    Args:
        arrays: Inputs, batch axis first.
        more: What else counts, likewise; None is left out.
    """
    leaves = [np.ascontiguousarray(one) for one in keras.tree.flatten([arrays, *more])]
    leaves = [one for one in leaves if one.dtype != object]
    found = np.empty(len(leaves[0]), np.uint32)
    for index in range(len(found)):
        value = 0
        for leaf in leaves:
            value = zlib.crc32(leaf[index].tobytes(), value)
        found[index] = value
    return found


def rows_of(arrays: Nested, places: Any) -> Nested:
    """Returns rows of each array; None stays None."""
    if arrays is None:
        return None
    return keras.tree.map_structure(lambda leaf: leaf[places], arrays)


def without_none(arrays: Any) -> list[Any]:
    """Leaves that are there."""
    return [leaf for leaf in keras.tree.flatten(arrays) if leaf is not None]


def checked_ids(ids: Any, count: int) -> Array:
    """Returns ids as int64, by default the samples' places, or raises if they are none."""
    array = np.arange(count) if ids is None else np.asarray(ids)
    is_one_each = array.shape == (count,) and np.issubdtype(array.dtype, np.integer)
    if not is_one_each or len(np.unique(array)) != count:
        raise ValueError(
            f"`ids` must be {count} different integers, one for each sample. Received: "
            f"{array.dtype} of shape {array.shape}. Leave them out to number the samples."
        )
    return array.astype(np.int64)
