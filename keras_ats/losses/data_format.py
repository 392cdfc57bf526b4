"""Where inner layers have their channels: as said, or as the model's layers say."""

from typing import Any

import keras

from keras_ats import checks
from keras_ats.record import Shapes


def as_data_format(value: Any) -> str | None:
    """Returns a `data_format`, or raises if it is none."""
    if value is None:
        return None
    return checks.one_of(value, "data_format", ("channels_last", "channels_first"))


def data_format_of(shapes: Shapes, name: str, given: str | None, user: str) -> str:
    """Returns where a layer has its channels.

    Args:
        shapes: What is known of its model.
        name: Its name.
        given: What was passed as `data_format`.
        user: The loss and the model's role, for messages.

    Raises:
        ValueError: If layers of the model say different things, and nothing was passed.
    """
    if given is not None:
        return given
    said = shapes.data_formats.get(name, frozenset())
    if len(said) > 1:
        raise ValueError(
            f"{user}: where the layer has its channels cannot be told. Received: {name!r} of a "
            'model with layers of both kinds. Pass data_format="channels_last" or '
            '"channels_first".'
        )
    if said:
        return next(iter(said))
    is_map = len(shapes.features[name]) > 3
    return str(keras.config.image_data_format()) if is_map else "channels_last"
