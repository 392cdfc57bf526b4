"""Logits that somebody has already, as a cache of one view."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_ats.checks import as_string, one_of
from keras_ats.teachers.cache import manifest
from keras_ats.teachers.cache.plan import SHARD_ROWS
from keras_ats.teachers.cache.rows import RowFormat, record_of
from keras_ats.teachers.cache.shards import Shards
from keras_ats.teachers.cache.sources.source import checked_ids
from keras_ats.teachers.cache.spoken import ONLY, checked_logits
from keras_ats.types import Config

KIND = "imported"


def write_arrays(logits: Any, ids: Any, folder: Path, name: str, dtype: str) -> None:
    """Writes logits in memory as a cache.

    Args:
        logits: An array, or a dict of them by output.
        ids: Of the samples, or None.
        folder: Where to.
        name: Of the teacher.
        dtype: Of the rows.
    """
    one_of(dtype, "dtype", ("float16", "float32"))
    as_string(name, "name", "a name for the teacher")
    named = logits if isinstance(logits, dict) else {ONLY: logits}
    arrays = {output: checked_logits(one, "`logits`") for output, one in named.items()}
    count = len(next(iter(arrays.values())))
    numbers = checked_ids(ids, count)
    formats = {
        output: RowFormat(one.shape[-1], one.shape[1:-1], dtype) for output, one in arrays.items()
    }
    of = _manifest(formats, numbers, name)
    if (folder / manifest.FILE).exists():
        manifest.refuse(folder, manifest.differences(manifest.read(folder), of))
    manifest.write_array(folder, "ids", numbers, 0)
    manifest.write(folder, of, 0)
    record = record_of(formats, with_fingerprints=False)
    shards = Shards(folder, manifest.identity(of), record, count, SHARD_ROWS)
    for shard in range(shards.number):
        part = slice(*shards.part(shard))
        rows = np.zeros(part.stop - part.start, record)
        for output, form in formats.items():
            rows[output] = form.encode(arrays[output][part])
        shards.write(0, shard, rows)


def _manifest(formats: dict[str, RowFormat], ids: Any, name: str) -> Config:
    return manifest.manifest(
        {"name": name, "weights": None, "reads": dict.fromkeys(formats, "logits"), "classes": None},
        {"kind": KIND, "count": len(ids), "ids": manifest.digest(ids), "fingerprints": None},
        {},
        {output: one.get_config() for output, one in formats.items()},
        {"shard_size": SHARD_ROWS, "batch_size": 1, "with_fingerprints": False},
        1,
    )
