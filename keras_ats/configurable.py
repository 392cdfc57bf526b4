"""What every small part of a loss shares: variables that callbacks may change, and a config."""

from collections.abc import Iterator
from typing import Any, Self

import keras

from keras_ats.types import Config


class Configurable:
    """A part of a loss: holds configuration, may own variables, round-trips through its config.

    Whatever may change during training is a `keras.Variable`: a Python float is obeyed by torch,
    ignored by TensorFlow and seen by JAX only when it happens to retrace.
    """

    def add_variable(self, value: float, name: str, trainable: bool = False) -> keras.Variable:
        """Creates a float32 scalar variable that belongs to this part.

        Args:
            value: Initial value.
            name: Name, shown in saved files.
            trainable: Whether the optimizer updates it. Defaults to False.

        Returns:
            The variable. Keep it as an attribute; `variables` finds it there.
        """
        return keras.Variable(
            value, dtype="float32", trainable=trainable, autocast=False, name=name
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of this part and of the parts it holds, in order of creation."""
        return list({id(variable): variable for variable in _variables_in(vars(self))}.values())

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the object that `get_config` described."""
        return cls(**{name: _deserialize(value) for name, value in config.items()})


def serialize(part: Any) -> Any:
    """Returns what a config holds for `part`: a nested config, a float, or the value itself."""
    if isinstance(part, keras.Variable):
        return float(keras.ops.convert_to_numpy(part.value))
    if isinstance(part, Configurable):
        return keras.saving.serialize_keras_object(part)
    return part


def _variables_in(part: Any) -> Iterator[keras.Variable]:
    if isinstance(part, keras.Variable):
        yield part
    elif isinstance(part, Configurable):
        yield from part.variables
    elif isinstance(part, dict):
        for value in part.values():
            yield from _variables_in(value)


def _deserialize(value: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value
