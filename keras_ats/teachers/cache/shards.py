"""The files of a cache: one for each shard and view, each whole or not there."""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_ats.files import whole_file
from keras_ats.teachers.cache.rows import Array

_MAGIC = b"keras_ats rows 1"
# What the file is; of which cache, view and shard; how long it is; what it holds.
_HEADER = struct.Struct("<16s32sIIQ32s32x")
# A memory map holds a file open, and a process may have about 1,000.
_MOST_OPEN = 256


def bytes_of_a_view(record: np.dtype[Any], count: int, size: int) -> int:
    """Size of a view's files, for so many rows, in shards of this size."""
    return -(-count // size) * _HEADER.size + count * record.itemsize


class Shards:
    """Rows in files, found by view and place.

    Args:
        folder: Of the cache.
        identity: 32 bytes that tell this cache from any other.
        record: The type of a row.
        count: Rows of a view.
        size: Rows of a shard; the last one may have fewer.
    """

    def __init__(
        self, folder: Path, identity: bytes, record: np.dtype[Any], count: int, size: int
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.record = record
        self.count = count
        self.size = size
        self._open: OrderedDict[tuple[int, int], Array] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens its own.
        return {**vars(self), "_open": OrderedDict()}

    @property
    def number(self) -> int:
        """How many shards a view has."""
        return -(-self.count // self.size)

    @property
    def bytes_of_a_view(self) -> int:
        """Size of a view's files."""
        return bytes_of_a_view(self.record, self.count, self.size)

    def path(self, view: int, shard: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"view_{view:04d}" / f"shard_{shard:06d}.rows"

    def part(self, shard: int) -> tuple[int, int]:
        """The places of a shard's rows, from and to."""
        return shard * self.size, min((shard + 1) * self.size, self.count)

    def missing(self, views: int) -> list[tuple[int, int]]:
        """View and shard of the files that are not there."""
        return [
            (view, shard)
            for view in range(views)
            for shard in range(self.number)
            if not self.path(view, shard).exists()
        ]

    def write(self, view: int, shard: int, rows: Array) -> None:
        """Writes one file, whole or not at all.

        Raises:
            OSError: If it cannot be written, such as on a full disk; names the file.
        """
        payload = np.ascontiguousarray(rows).tobytes()
        header = _HEADER.pack(
            _MAGIC, self.identity, view, shard, len(payload), hashlib.sha256(payload).digest()
        )
        with whole_file(self.path(view, shard)) as unfinished, unfinished.open("wb") as stream:
            stream.write(header)
            stream.write(payload)

    def read(self, view: int, places: Array) -> Array:
        """Returns the rows at these places of a view, shape `(len(places),)`."""
        rows = np.empty(len(places), self.record)
        shards = places // self.size
        for shard in np.unique(shards):
            here = shards == shard
            rows[here] = self._mapped(view, int(shard))[places[here] - shard * self.size]
        return rows

    def check(self, views: int) -> None:
        """Raises if a file is damaged, cut short or of another cache; reads all of them once.

        Raises:
            ValueError: Says which file, and what is wrong with it.
        """
        for view, shard in self._present(views):
            with self.path(view, shard).open("rb") as stream:
                self._check_header(view, shard, stream.read(_HEADER.size))
                stream.seek(0)
                digest = stream.read(_HEADER.size)[-64:-32]
                if hashlib.file_digest(stream, "sha256").digest() != digest:
                    raise ValueError(
                        self._problem(view, shard, "holds other bytes than were written")
                    )

    def _present(self, views: int) -> Iterator[tuple[int, int]]:
        missing = set(self.missing(views))
        for view in range(views):
            for shard in range(self.number):
                if (view, shard) not in missing:
                    yield view, shard

    def _mapped(self, view: int, shard: int) -> Array:
        key = (view, shard)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        path = self.path(view, shard)
        with path.open("rb") as stream:
            self._check_header(view, shard, stream.read(_HEADER.size))
        start, end = self.part(shard)
        rows = np.memmap(path, self.record, "r", _HEADER.size, (end - start,))
        self._open[key] = rows
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return rows

    def _check_header(self, view: int, shard: int, header: bytes) -> None:
        start, end = self.part(shard)
        payload = (end - start) * self.record.itemsize
        size = self.path(view, shard).stat().st_size
        if size != _HEADER.size + payload or len(header) != _HEADER.size:
            raise ValueError(
                self._problem(view, shard, f"has {size} bytes instead of {_HEADER.size + payload}")
            )
        magic, identity, own_view, own_shard, _, _ = _HEADER.unpack(header)
        if magic != _MAGIC:
            raise ValueError(self._problem(view, shard, "is no file of a cache"))
        if identity != self.identity:
            raise ValueError(self._problem(view, shard, "belongs to another cache"))
        if (own_view, own_shard) != (view, shard):
            raise ValueError(self._problem(view, shard, f"is shard {own_shard} of view {own_view}"))

    def _problem(self, view: int, shard: int, problem: str) -> str:
        return (
            f"{self.path(view, shard)} {problem}. Expected: shard {shard} of view {view}, as it "
            "was written. Delete it and call cache_teacher again, which writes what is missing."
        )
