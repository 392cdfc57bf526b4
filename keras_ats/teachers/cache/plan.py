"""What a cache will be, known before its first row is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ats.checks import as_integer, one_of
from keras_ats.record import pick
from keras_ats.teachers.cache import manifest
from keras_ats.teachers.cache.rows import Array, RowFormat, record_of
from keras_ats.teachers.cache.sources.kinds import source_of
from keras_ats.teachers.cache.sources.source import Chosen, Seen, Source
from keras_ats.teachers.cache.spoken import Spoken
from keras_ats.types import Config

VIEWS = 8
"""How many views there are of what is augmented, unless said otherwise."""

# A shard is what a kill may cost, and a file: some of both.
SHARD_ROWS = 4096
_SHARD_BYTES = 2**26


@dataclass(frozen=True)
class Plan:
    """Who speaks of what, and the rows that come of it."""

    spoken: Spoken
    source: Source
    views: int
    batch_size: int
    shard_size: int
    formats: Mapping[str, RowFormat]

    @property
    def record(self) -> np.dtype[Any]:
        """The type of a row."""
        return record_of(self.formats, with_fingerprints=self.source.fingerprints is None)

    @property
    def manifest(self) -> Config:
        """The manifest of the cache."""
        return manifest.manifest(
            self.spoken.description,
            data_config(self.source),
            self.source.augmentation(),
            {name: one.get_config() for name, one in self.formats.items()},
            {
                "shard_size": self.shard_size,
                "batch_size": self.batch_size,
                "with_fingerprints": self.source.fingerprints is None,
            },
            self.views,
        )

    def rows(self, seen: Seen) -> Array:
        """Runs the teacher on a batch and returns the rows."""
        said = self.spoken(seen.inputs, self.batch_size)
        rows = np.zeros(len(next(iter(said.values()))), self.record)
        for name, form in self.formats.items():
            logits, expected = said[name], (*form.positions, form.classes)
            if logits.shape[1:] != expected:
                raise ValueError(
                    "The teacher's logits must have the same shape for all batches. Received: "
                    f"{logits.shape[1:]} after {expected}. Pad the samples to one length."
                )
            rows[name] = form.encode(logits, pick(seen.labels, name))
        if seen.fingerprints is not None:
            rows["fingerprint"] = seen.fingerprints
        return rows


def plan_of(
    teacher: Any,
    data: Any,
    *,
    views: int | None,
    seed: int,
    ids: Any,
    top_k: int | None,
    dtype: str,
    classes: int | None,
    name: str | None,
    from_logits: Any,
    batch_size: int,
    options: Config,
) -> Plan:
    """Returns the plan of a cache; arguments are those of `cache_teacher`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If something does not fit.
    """
    one_of(dtype, "dtype", ("float16", "float32"))
    top_k = None if top_k is None else as_integer(top_k, "top_k")
    views = None if views is None else as_integer(views, "views")
    batch_size = as_integer(batch_size, "batch_size")
    seed = as_integer(seed, "seed", 0)
    spoken = Spoken(teacher, name, from_logits, classes)
    source = source_of(data, ids, seed, options)
    if views is None:
        views = VIEWS if source.is_random else 1
    if views > 1 and not source.is_random:
        raise ValueError(
            "`views` must be 1 where nothing is augmented: all views would be the same. Received: "
            f"views={views} with data of the kind {source.kind}. For views that differ use "
            "keras_ats.data.Samples, a torch Dataset or a PyDataset."
        )
    size = source.batch_size or min(batch_size, len(source))
    places = np.arange(min(size, len(source)))
    seen = next(source.batches([Chosen(np.zeros_like(places), places)]))
    try:
        said = spoken(seen.inputs, size)
    except Exception as error:
        shapes = keras.tree.map_structure(np.shape, seen.inputs)
        raise ValueError(
            f"The teacher cannot be run on a batch of `data`. Received: {error} Given: inputs of "
            f"shape {shapes}."
        ) from error
    formats = {
        output: _format(logits, pick(seen.labels, output), dtype, top_k)
        for output, logits in said.items()
    }
    row = record_of(formats, with_fingerprints=source.fingerprints is None).itemsize
    rows = max(size, min(SHARD_ROWS, _SHARD_BYTES // row) // size * size)
    return Plan(spoken, source, views, size, rows, formats)


def data_config(source: Source) -> Config:
    """What a manifest says of data."""
    prints = source.fingerprints
    return {
        "kind": source.kind,
        "count": len(source),
        "ids": manifest.digest(source.ids),
        "fingerprints": None if prints is None else manifest.digest(prints),
        **source.description(),
    }


def _format(logits: Array, labels: Any, dtype: str, top_k: int | None) -> RowFormat:
    """The rows for logits of this shape."""
    classes, positions = logits.shape[-1], logits.shape[1:-1]
    # Two, where a sample is mixed of two.
    kept = 0 if labels is None else 1 if np.size(labels) * classes == logits.size else 2
    if top_k is not None and top_k + kept >= classes:
        raise ValueError(
            f"`top_k` must leave some of the classes out. Received: top_k={top_k} and "
            f"{kept} for the labels, with {classes} classes. Leave `top_k` out."
        )
    if labels is not None and top_k is not None:
        _check_labels(np.shape(labels), logits.shape)
    return RowFormat(classes, positions, dtype, top_k, kept)


def _check_labels(labels: tuple[int, ...], logits: tuple[int, ...]) -> None:
    if labels not in (logits[:-1], (*logits[:-1], 1), logits):
        raise ValueError(
            "Labels, whose logits are kept besides the largest, must fit the teacher's logits. "
            f"Received: labels of shape {labels} for logits of shape {logits}. Expected: ids of "
            f"shape {logits[:-1]}, or rows of shape {logits}."
        )


def batches_of(view: int, start: int, end: int, size: int) -> Iterator[Chosen]:
    """The samples from one place to another, so many at a time."""
    for at in range(start, end, size):
        places = np.arange(at, min(at + size, end))
        yield Chosen(np.full_like(places, view), places)


def length_of(inputs: Any) -> int:
    """How many samples a batch has."""
    return len(keras.tree.flatten(inputs)[0])
