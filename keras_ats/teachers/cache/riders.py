"""Finds what was said of samples, by id and view, in the form that rides along with a batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ats.teachers.cache.rows import Array, RowFormat
from keras_ats.teachers.cache.shards import Shards


class Riders:
    """What worker processes are given of a cache.

    Args:
        shards: The files.
        formats: Of their rows, by output name.
        ids: `(n,)`, of the samples in the order of the rows.
        fingerprints: `(n,)`, of the samples before augmentation, or None.
        views: How many views are used.
    """

    def __init__(
        self,
        shards: Shards,
        formats: Mapping[str, RowFormat],
        ids: Array,
        fingerprints: Array | None,
        views: int,
    ) -> None:
        self.shards = shards
        self.formats = formats
        self.views = views
        self.fingerprints = fingerprints
        self._is_numbered = bool(np.array_equal(ids, np.arange(len(ids))))
        self._order = np.argsort(ids)
        self._sorted = ids[self._order]

    @property
    def carried(self) -> dict[tuple[str, str], tuple[str, tuple[int, ...]]]:
        """Type and shape of each part, by output and name of the part."""
        return {
            (output, name): part
            for output, one in self.formats.items()
            for name, part in one.carried.items()
        }

    def places(self, ids: Array) -> Array:
        """Returns where the rows of samples are, or raises if some are not there."""
        if self._is_numbered:
            at = ids
            known = (ids >= 0) & (ids < len(self._sorted))
        else:
            found = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
            known = self._sorted[found] == ids
            at = self._order[found]
        if not known.all():
            raise ValueError(
                "The cache holds nothing of some samples. Received: ids "
                f"{np.asarray(ids)[~known][:5].tolist()}. Expected: ids of the samples that it was "
                "made of."
            )
        return at

    def rows(self, view: int, places: Array) -> Array:
        """Returns the rows at places of a view."""
        return self.shards.read(view % self.views, places)

    def carry(self, rows: Array) -> dict[str, dict[str, Array]]:
        """Returns what rides along with a batch of rows, by output and name of the part."""
        return {name: one.carry(rows[name]) for name, one in self.formats.items()}

    def flat(self, view: Any, ids: Array) -> list[Array]:
        """Returns the same as a list, in the order of `carried`."""
        carried = self.carry(self.rows(int(view), self.places(ids)))
        return [carried[output][name] for output, name in self.carried]

    def check(self, expected: Array, found: Array, ids: Array) -> None:
        """Raises if fingerprints differ from those of what the teacher was shown."""
        if not np.array_equal(expected, found):
            others = np.asarray(ids)[expected != found]
            raise ValueError(
                "What a student would be shown is not what the teacher was shown. Received: other "
                f"inputs for the ids {others[:5].tolist()}. Expected: the data and the seed that "
                "the cache was made with, and libraries that draw the same."
            )
