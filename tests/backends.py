"""Tests that need not run on every backend, in whole or in part."""

import zlib
from collections import defaultdict
from collections.abc import Iterable

import keras
import pytest

# torch compiles nothing and is done first, so it takes what any of the three could.
CHEAPEST = "torch"
# Which twelfth of a table's cases each of the others takes; the rest is left to torch alone.
PARTS = 12
TURNS = {"tensorflow": 0, "jax": 1}


def on_one_backend(reason: str) -> pytest.MarkDecorator:
    """For tests of what does not depend on the backend; `reason` says why it does not."""
    return pytest.mark.skipif(
        keras.backend.backend() != CHEAPEST, reason=f"on {CHEAPEST} alone: {reason}"
    )


def cases_in_turn(reason: str) -> pytest.MarkDecorator:
    """For tables of many cases, whose cases and backends are independent; `reason` says why.

    torch runs all cases, TensorFlow and JAX a twelfth each, and not the same one. The product of
    both is what `make test ARGS=--every-case` runs, and the workflow on GitHub.
    """
    return pytest.mark.cases_in_turn(reason)


def left_to_others(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The cases that this backend leaves to the others."""
    backend = keras.backend.backend()
    tables = defaultdict(list)
    for item in items:
        if item.get_closest_marker("cases_in_turn"):
            tables[item.nodeid.partition("[")[0]].append(item)
    if backend == CHEAPEST:
        for item in (item for table in tables.values() for item in table):
            if any(mark.args[:1] == (True,) for mark in item.iter_markers("skipif")):
                raise pytest.UsageError(
                    f"{item.nodeid} takes its cases in turn and is skipped on {CHEAPEST}, which "
                    "should run all of them: most would run nowhere."
                )
        return []
    left = []
    for table in tables.values():
        if len(table) > 1:
            # Ordered by what follows no axis of the table.
            table.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
            left += [item for rank, item in enumerate(table) if rank % PARTS != TURNS[backend]]
    return left
