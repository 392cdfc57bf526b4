"""What every small part of a loss shares: variables that callbacks may change, and a config."""

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
        found: dict[int, keras.Variable] = {}
        for value in vars(self).values():
            if isinstance(value, keras.Variable):
                found[id(value)] = value
            elif isinstance(value, Configurable):
                found.update({id(variable): variable for variable in value.variables})
        return list(found.values())

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


def _deserialize(value: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value
