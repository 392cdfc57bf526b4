"""How a teacher's logits are held: the row's maximum and the differences to it, or the largest k.

A row keeps its maximum in float32, because ATS is not invariant to a shift, and the differences in
float16: relative to them its error is the same at every temperature. Probabilities are never kept;
they would fix the temperature.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_ats.ops.absent_classes import LOG_OF_ZERO
from keras_ats.ops.tail import TAIL_NODES
from keras_ats.types import Config

Array: TypeAlias = npt.NDArray[Any]

_TYPES = {"float16": "<f2", "float32": "<f4"}
_CHUNK = 2**22  # Logits that are worked on at a time, in float32 about 16 MB.


@dataclass(frozen=True)
class RowFormat:
    """The rows of one output.

    Attributes:
        classes: How many classes the teacher has.
        positions: Axes between samples and classes, such as pixels or tokens.
        dtype: Of differences to the maximum: "float16" or "float32".
        top_k: How many of the largest logits are kept; None for all.
        labels: Logits of labels that are kept beside these.
    """

    classes: int
    positions: tuple[int, ...] = ()
    dtype: str = "float16"
    top_k: int | None = None
    labels: int = 1

    @property
    def kept(self) -> int:
        """How many logits a row has."""
        return self.classes if self.top_k is None else self.top_k + self.labels

    @property
    def record(self) -> np.dtype[Any]:
        """The type of a row, as it lies in files."""
        at = self.positions
        fields: list[Any] = [
            ("maximum", "<f4", at),
            ("differences", _TYPES[self.dtype], (*at, self.kept)),
        ]
        if self.top_k is not None:
            fields += [
                ("ids", "<u2" if self.classes <= 2**16 else "<u4", (*at, self.kept)),
                ("tail", "<f4", (*at, len(TAIL_NODES))),
                ("count", "<u4", at),
                ("mean", "<f4", at),
            ]
        return np.dtype(fields)

    @property
    def carried(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What rides along with a batch: type and shape of each part, without the batch axis."""
        found = {}
        for name in self.record.names or ():
            base, shape = (self.record[name].base, self.record[name].shape)
            # PyTorch has no unsigned integers of these sizes.
            is_integer = np.issubdtype(base, np.integer)
            found[name] = ("int32" if is_integer else base.name, shape)
        return found

    def encode(self, logits: Array, labels: Any = None) -> Array:
        """Returns the rows of a batch.

        Args:
            logits: float32, shape `(batch, *positions, classes)`.
            labels: Ids `(batch, *positions)` or rows `(..., classes)`; None for none.

        Returns:
            Array of `record`, shape `(batch,)`.
        """
        rows = np.zeros(len(logits), self.record)
        flat = logits.reshape(-1, self.classes)
        top = np.max(flat, axis=-1)
        rows["maximum"] = top.reshape(rows["maximum"].shape)
        if self.top_k is None:
            rows["differences"] = self._narrow(logits - rows["maximum"][..., np.newaxis])
            return rows
        marks = None if labels is None else self._labels(labels, len(flat))
        size = max(1, _CHUNK // self.classes)
        parts = [
            self._largest(flat[i : i + size], None if marks is None else marks[i : i + size])
            for i in range(0, len(flat), size)
        ]
        for name, values in zip(
            ("differences", "ids", "tail", "count", "mean"), zip(*parts, strict=True), strict=True
        ):
            rows[name] = np.concatenate(values).reshape(rows[name].shape)
        return rows

    def carry(self, rows: Array) -> dict[str, Array]:
        """Returns what rides along with a batch of rows."""
        return {
            name: np.ascontiguousarray(rows[name], dtype=dtype)
            for name, (dtype, _) in self.carried.items()
        }

    def logits(self, rows: Array) -> Array:
        """Returns the logits of rows, float32; those that were not kept are minus infinity."""
        values = rows["maximum"][..., np.newaxis] + rows["differences"].astype(np.float32)
        if self.top_k is None:
            return values
        full = np.full((*values.shape[:-1], self.classes), -np.inf, np.float32)
        np.put_along_axis(full, rows["ids"].astype(np.int64), values, axis=-1)
        return full

    def get_config(self) -> Config:
        """Returns the attributes."""
        return {**asdict(self), "positions": list(self.positions)}

    @classmethod
    def from_config(cls, config: Config) -> "RowFormat":
        """Makes the format that `get_config` described."""
        return cls(**{**config, "positions": tuple(config["positions"])})

    def _narrow(self, differences: Array) -> Array:
        """Differences in the type of the file; a class that the teacher has stays one."""
        if self.dtype == "float32":
            return differences.astype(np.float32)
        lowest = np.finfo(np.float16).min
        clipped = np.maximum(differences, lowest)
        return np.where(np.isneginf(differences), -np.inf, clipped).astype(np.float16)

    def _labels(self, labels: Any, count: int) -> Array:
        """Ids of labels, `(count, labels)`; -1 where there is none."""
        given = np.asarray(labels)
        if given.size == count:
            ids = given.reshape(count, 1).astype(np.int64)
            ids = np.where((ids >= 0) & (ids < self.classes), ids, -1)
            return np.pad(ids, ((0, 0), (0, self.labels - 1)), constant_values=-1)
        rows = given.reshape(count, self.classes)
        ids = np.argsort(-rows, axis=-1, kind="stable")[:, : self.labels]
        return np.where(np.take_along_axis(rows, ids, axis=-1) > 0, ids, -1)

    def _largest(self, logits: Array, marks: Array | None) -> tuple[Array, ...]:
        """The largest logits, those of labels among them, and what the others come to."""
        scores = logits
        if marks is not None:
            scores = logits.copy()
            places, which = np.nonzero(marks >= 0)
            scores[places, marks[places, which]] = np.inf
        ids = np.argpartition(-scores, self.kept - 1, axis=-1)[:, : self.kept]
        # In the order of logits, and of ids where these are equal.
        ids = np.sort(ids, axis=-1)
        values = np.take_along_axis(logits, ids, axis=-1)
        order = np.argsort(-values, axis=-1, kind="stable")
        ids, values = (np.take_along_axis(one, order, axis=-1) for one in (ids, values))
        top = values[:, :1] if marks is None else np.max(logits, axis=-1, keepdims=True)
        rest = logits - top
        np.put_along_axis(rest, ids, -np.inf, axis=-1)
        present = ~np.isneginf(rest)
        count = present.sum(axis=-1)
        mean = np.where(present, rest, 0.0).sum(axis=-1, dtype=np.float64) / np.maximum(count, 1)
        return (
            self._narrow(values - top),
            ids,
            _tail(rest),
            count,
            mean,
        )


def record_of(formats: Mapping[str, RowFormat], *, with_fingerprints: bool) -> np.dtype[Any]:
    """The type of a row of all outputs.

    Args:
        formats: By output name.
        with_fingerprints: Whether each row says which input it is of.
    """
    fields = [(name, one.record) for name, one in formats.items()]
    return np.dtype([*fields, ("fingerprint", "<u4")] if with_fingerprints else fields)


def _tail(rest: Array) -> Array:
    """Log of the sum of exponentials at each of the nodes, `(rows, 8)`."""
    # Relative to its own maximum: far below that of the row all of them would be 0.
    top = np.max(rest, axis=-1, keepdims=True)
    # Lower than what a tail of absent classes alone could be mistaken for.
    top = np.where(np.isneginf(top), np.float32(LOG_OF_ZERO), top)
    below = rest - top
    sums = [
        np.exp(below * np.float32(inverse)).sum(axis=-1, dtype=np.float64) for inverse in TAIL_NODES
    ]
    logs = np.log(np.maximum(np.stack(sums, axis=-1), 1.0))
    return logs + top * np.array(TAIL_NODES)
