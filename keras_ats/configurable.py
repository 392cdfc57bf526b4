"""What every small part of a loss shares: variables that callbacks may change, and a config."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Self, Unpack, get_origin

import keras

from keras_ats.checks import Check, finite_number
from keras_ats.types import Config

# Name of a variable's attribute. There, because several parts may hold the same variable.
_CHECK = "keras_ats_check"


class Configurable:
    """A part of a loss: holds configuration, may own variables, round-trips through its config.

    Whatever may change during training is a `keras.Variable`: a Python float is obeyed by torch,
    ignored by TensorFlow and seen by JAX only when it happens to retrace.

    A subclass keeps each argument of its constructor in an attribute of the same name; config and
    saved variables follow from that.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lets the constructor name the class itself where it is given an unknown argument."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _naming_the_class(cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; a number in the place of a variable is assigned to it."""
        present = vars(self).get(name)
        if isinstance(present, keras.Variable) and not isinstance(value, keras.Variable):
            present.assign(check_of(present)(value, name))
        else:
            super().__setattr__(name, value)

    def add_variable(
        self, value: Any, name: str, check: Check = finite_number, *, trainable: bool = False
    ) -> keras.Variable:
        """Creates a float32 scalar variable that belongs to this part.

        Args:
            value: Initial value, a number.
            name: Name, shown in saved files and in the error of a wrong value.
            check: A function of `keras_ats.checks` that `value` must pass. Defaults to
                `finite_number`.
            trainable: Whether the optimizer updates it. Defaults to False.

        Returns:
            The variable. Keep it as an attribute; `variables` finds it there.

        Raises:
            TypeError: If `value` is not a number.
            ValueError: If `value` is out of range.
        """
        variable = keras.Variable(
            check(value, name), dtype="float32", trainable=trainable, autocast=False, name=name
        )
        setattr(variable, _CHECK, check)
        return variable

    @property
    def named_variables(self) -> dict[str, keras.Variable]:
        """All variables of this part and of the parts and layers it holds, once, by their path."""
        found: dict[int, tuple[str, keras.Variable]] = {}
        for path, variable in _variables_in(vars(self)):
            found.setdefault(id(variable), (path, variable))
        return dict(found.values())

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of this part and of the parts and layers it holds, in order of creation."""
        return list(self.named_variables.values())

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {name: serialize(getattr(self, name)) for name in _argument_names(type(self))}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the object that `get_config` described."""
        return cls(**{name: deserialize(value) for name, value in config.items()})


def check_of(variable: keras.Variable) -> Check:
    """Returns what a new value of the variable must pass."""
    check: Check = getattr(variable, _CHECK, finite_number)
    return check


def serialize(part: Any) -> Any:
    """Returns what a config holds for `part`: a nested config, a float, or the value itself."""
    if isinstance(part, keras.Variable):
        return float(keras.ops.convert_to_numpy(part.value))
    if isinstance(part, Configurable | keras.layers.Layer):
        return keras.saving.serialize_keras_object(part)
    if isinstance(part, list | tuple):
        return [serialize(one) for one in part]
    if isinstance(part, dict):
        return {name: serialize(one) for name, one in part.items()}
    return part


def deserialize(value: Any) -> Any:
    """Returns what `serialize` described."""
    if isinstance(value, dict):
        if "class_name" in value:
            return keras.saving.deserialize_keras_object(value)
        return {name: deserialize(one) for name, one in value.items()}
    return [deserialize(one) for one in value] if isinstance(value, list) else value


def _naming_the_class(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that names unknown arguments before a base class, which has others, does."""

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        # Base classes are called with arguments of their own.
        if kwargs and cls.__init__ is checked and not _takes_any_argument(cls):
            known = _argument_names(cls)
            for name in kwargs:
                if name not in known:
                    raise TypeError(
                        f"{cls.__name__}() got an unexpected keyword argument {name!r}. Received: "
                        f"{name}={kwargs[name]!r}. Expected: some of {known}."
                    )
        init(self, *args, **kwargs)

    return checked


def _takes_any_argument(cls: type) -> bool:
    """Whether the constructor has a `**kwargs` whose names are not declared."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return any(
        one.kind is inspect.Parameter.VAR_KEYWORD and get_origin(one.annotation) is not Unpack
        for one in parameters
    )


def _argument_names(cls: type) -> list[str]:
    """Names of all that the constructor takes, `**kwargs` followed to where they are named."""
    names: list[str] = []
    for owner in cls.__mro__:
        if "__init__" not in vars(owner) or owner is object:
            continue
        parameters = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        rest = [one for one in parameters if one.kind is inspect.Parameter.VAR_KEYWORD]
        names += [one.name for one in parameters if one.kind not in _UNNAMED]
        if not rest:
            break
        if get_origin(rest[0].annotation) is Unpack:
            names += rest[0].annotation.__args__[0].__annotations__
            break
    return list(dict.fromkeys(names))


_UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _variables_in(part: Any) -> Iterator[tuple[str, keras.Variable]]:
    """All variables within `part`, however deep, with the path that leads to each."""
    if isinstance(part, keras.Variable):
        yield "", part
    elif isinstance(part, Configurable):
        yield from part.named_variables.items()
    elif isinstance(part, keras.layers.Layer):
        # Keras counts the instances of a layer in its name, so only the place tells it.
        yield from ((f"{i}_{v.name}", v) for i, v in enumerate(part.variables))
    elif isinstance(part, dict | list | tuple):
        entries = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in entries:
            for path, variable in _variables_in(value):
                yield f"{key}.{path}".rstrip("."), variable
