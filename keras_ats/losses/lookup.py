"""Losses by name or config, as Keras users look things up."""

from typing import Any

import keras

from keras_ats.checks import snake_case
from keras_ats.losses.distillation_loss import DistillationLoss


def get(identifier: Any) -> Any:
    """Returns a distillation loss from its name, its config or itself.

    Args:
        identifier: A class name in snake case (`"asymmetric_temperature_kd"`) or as written, with
            default arguments; a config of `keras.saving.serialize_keras_object`; a loss; or None.
            Your own losses are found once they are registered with
            `keras.saving.register_keras_serializable`.

    Returns:
        The `DistillationLoss`; None for None.

    Raises:
        ValueError: If nothing of that name is known.
        TypeError: If `identifier` is of another kind, or the loss has arguments without defaults.

    Example:

    ```python
    keras_ats.losses.get("asymmetric_temperature_kd")
    ```
    """
    if identifier is None or isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    elif isinstance(identifier, str):
        identifier = _by_name(identifier)
    if isinstance(identifier, DistillationLoss):
        return identifier
    hint = f" Call it: {identifier.__name__}(...)." if isinstance(identifier, type) else ""
    raise TypeError(
        "Expected a distillation loss of keras_ats.losses, its name or its config. Received: "
        f"{identifier!r} of type {type(identifier).__name__}.{hint}"
    )


def _by_name(name: str) -> DistillationLoss:
    known = {
        snake_case(registered.__name__): registered
        for registered in keras.saving.get_custom_objects().values()
        if isinstance(registered, type) and issubclass(registered, DistillationLoss)
    }
    if snake_case(name) not in known:
        raise ValueError(
            f"No distillation loss is named {name!r}. Expected one of {sorted(known)}, or an "
            "instance such as keras_ats.losses.AsymmetricTemperatureKD(4, 2)."
        )
    loss = known[snake_case(name)]
    try:
        return loss()
    except TypeError as error:
        raise TypeError(
            f"{loss.__name__} cannot be had by its name alone: {error}. Received: {name!r}. Pass "
            f"an instance: {loss.__name__}(...)."
        ) from error
