"""A second object of a layer: what must be other about it is, and all else is shared."""

from typing import Any


def twin_of(operation: Any, **changes: Any) -> Any:
    """Returns a layer or operation that shares all state with the given one, but for `changes`.

    The given one is read and never written to, so it may run in another thread meanwhile. Its
    variables, losses and inner layers are the twin's too; what it gets later, such as the
    variables of LoRA or of quantisation, only a new twin will have.

    Args:
        operation: The layer or operation.
        **changes: Attributes of the twin's own.
    """
    # Not `copy.copy` and `setattr`: on torch they reach into the module's own registry of layers,
    # which both would share. What stands in `__dict__` is found before anything in there.
    twin = object.__new__(type(operation))
    vars(twin).update(vars(operation))
    vars(twin).update(changes)
    return twin
