"""What a model is being used for, in this thread, right now."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

# Not attributes of the model: another thread may call it at the same time for another purpose.
_PRESENT: ContextVar[frozenset[tuple[int, str]]] = ContextVar("keras_ats_phases")


@contextlib.contextmanager
def during(model: object, phase: str) -> Iterator[None]:
    """Marks that within this block `model` is used for `phase`."""
    token = _PRESENT.set(_PRESENT.get(frozenset()) | {(id(model), phase)})
    try:
        yield
    finally:
        _PRESENT.reset(token)


def is_during(model: object, phase: str) -> bool:
    """Whether the caller runs within `during(model, phase)`."""
    return (id(model), phase) in _PRESENT.get(frozenset())
