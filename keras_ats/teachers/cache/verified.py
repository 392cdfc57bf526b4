"""The teacher is run again on some rows, and must say what is kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ats.teachers.cache.rows import Array, RowFormat
from keras_ats.teachers.cache.sources.source import Chosen, Source
from keras_ats.teachers.cache.spoken import Spoken

# A device rounds otherwise than another: TF32, fused sums. Relative to the spread of a row.
_TOLERANCE = 5e-3
_TOLERANCE_OF_HALF = 5e-2


def verify_rows(
    read: Any, formats: Mapping[str, RowFormat], source: Source, spoken: Spoken, chosen: Chosen
) -> None:
    """Raises if the teacher does not say what is kept.

    Args:
        read: From view and places to rows.
        formats: Of the rows.
        source: What the teacher is shown.
        spoken: The teacher.
        chosen: The samples.
    """
    if not len(chosen.places):
        return
    tolerance = _TOLERANCE_OF_HALF if spoken.is_half else _TOLERANCE
    kept = np.concatenate(
        [read(view, chosen.places[chosen.views == view]) for view in np.unique(chosen.views)]
    )
    (seen,) = source.batches([chosen])
    if seen.fingerprints is not None:
        _refuse(source, chosen, kept["fingerprint"] != seen.fingerprints, "was shown other inputs")
    said = spoken(seen.inputs, len(chosen.places))
    for name, form in formats.items():
        wrong = _differs(form, kept[name], said[name], tolerance)
        _refuse(source, chosen, wrong, "says other logits")


def choose(count: int, views: int, n: int, seed: int) -> Chosen:
    """Returns up to n different rows."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(count * views, min(n, count * views), replace=False))
    return Chosen(some // count, some % count)


def _differs(form: RowFormat, kept: Array, said: Array, tolerance: float) -> Array:
    """Which rows differ by more than rounding, `(batch,)`."""
    stored = form.logits(kept)
    known = ~np.isneginf(stored)
    spread = np.abs(np.where(known & np.isfinite(said), said, 0.0)).max(axis=-1, keepdims=True)
    allowed = tolerance * (1.0 + spread)
    with np.errstate(invalid="ignore"):
        wrong = known & ~(np.abs(stored - said) <= allowed)
    if form.top_k is None:
        wrong |= ~known & np.isfinite(said)
    return wrong.reshape(len(kept), -1).any(axis=-1)


def _refuse(source: Source, chosen: Chosen, wrong: Array, problem: str) -> None:
    if wrong.any():
        raise ValueError(
            f"The teacher {problem} than when the cache was made. Received: a difference for "
            f"{wrong.sum()} of {len(wrong)} samples, the first in view {chosen.views[wrong][0]} "
            f"with the id {source.ids[chosen.places[wrong]][0]}. Expected: the same teacher, the "
            "same data and the same libraries. Make the cache anew at another path."
        )
