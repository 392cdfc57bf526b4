"""Losses by name or config, as Keras users look things up."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_ats.losses.kd_loss import KDLoss
from keras_ats.naming import snake_case


def get(identifier: Any) -> Any:
    """Returns a distillation loss from its name, its config or itself.

    Args:
        identifier: A class name in snake case (`"asymmetric_temperature_kd"`) or as written, with
            default arguments; a config of `keras.saving.serialize_keras_object`; a loss; or None.
            Own subclasses of `KDLoss` are found too.

    Returns:
        The `KDLoss`; None for None.

    Raises:
        ValueError: If nothing of that name is known.
        TypeError: If `identifier` is of another kind.

    Example:

    ```python
    keras_ats.losses.get("asymmetric_temperature_kd")
    ```
    """
    if identifier is None or isinstance(identifier, KDLoss):
        return identifier
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    elif isinstance(identifier, str):
        identifier = _by_name(identifier)
    if isinstance(identifier, KDLoss):
        return identifier
    hint = f" Call it: {identifier.__name__}(...)." if isinstance(identifier, type) else ""
    raise TypeError(
        "Expected a distillation loss of keras_ats.losses, its name or its config. Received: "
        f"{identifier!r} of type {type(identifier).__name__}.{hint}"
    )


def _by_name(name: str) -> KDLoss:
    known = {snake_case(loss.__name__): loss for loss in _subclasses(KDLoss)}
    if snake_case(name) not in known:
        raise ValueError(
            f"No distillation loss is named {name!r}. Expected one of {sorted(known)}, or an "
            "instance such as keras_ats.losses.AsymmetricTemperatureKD(4, 2)."
        )
    return known[snake_case(name)]()


def _subclasses(cls: Any) -> Iterator[type[KDLoss]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
