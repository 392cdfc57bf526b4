"""What is changed in a batch before a training step, so that both models are shown the same."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import keras

from keras_ats._keras import all_layers
from keras_ats.teachers.live import LiveTeacher
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Nested

Augmentation: TypeAlias = Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]] | None
"""A layer or a function of a batch of inputs; or some of these, by the inputs that they change."""


def as_augmentation(augmentation: Any) -> Augmentation:
    """Returns what was given as `augmentation`, or raises if it cannot be one."""
    if augmentation is None:
        return None
    is_mapping = isinstance(augmentation, Mapping)
    for one in augmentation.values() if is_mapping else [augmentation]:
        if not callable(one) or isinstance(one, type):
            hint = f" Call it: {one.__name__}(...)." if isinstance(one, type) else ""
            raise TypeError(
                "`augmentation` must be a layer, a function of a batch of inputs, a dict of these "
                f"by input, or None. Received: augmentation={augmentation!r} of type "
                f"{type(augmentation).__name__}.{hint}"
            )
    if is_mapping and not augmentation:
        raise ValueError(
            "`augmentation` must name the inputs that it changes. Received: augmentation={}. "
            "Expected: for example {'image': keras.layers.RandomFlip()}, or None."
        )
    _check_frozen(augmentation)
    return augmentation


def check_can_be_shown(teacher: Teacher) -> None:
    """Raises if a teacher only remembers, so that it cannot see what the student is shown."""
    if not isinstance(teacher, LiveTeacher) and not teacher.variables:
        raise ValueError(
            "`augmentation` is for a teacher that is run; what this one said is of other pictures. "
            f"Received: a {type(teacher).__name__}, which has no variables. Leave `augmentation` "
            "out and augment the data; keras_ats.cache_teacher(..., views=...) keeps what is said "
            "of augmented views."
        )


def augmented(augmentation: Augmentation, x: Nested) -> Nested:
    """Returns a batch of inputs as both models are to be shown it in a training step.

    Args:
        augmentation: The changes to make.
        x: Inputs of a batch.

    Raises:
        ValueError: If inputs that are named are not there, if the result has other samples, or if
            random numbers come from a state that nobody saves.
    """
    build_layers(augmentation, x)
    _check_frozen(augmentation)
    variables = [variable for layer in _layers(augmentation) for variable in layer.variables]
    state = [(variable, variable.value) for variable in variables]
    with keras.StatelessScope(state_mapping=state) as scope:
        before = dict(scope.state_mapping)
        changed = _called(augmentation, x)
    if set(scope.state_mapping) != set(before):
        # The same batch after batch on JAX, and other numbers in a run that is resumed.
        raise ValueError(
            "The augmentation draws random numbers from a layer or keras.random.SeedGenerator "
            "that the distiller does not know, so it could neither go on with them nor save them. "
            f"Received: augmentation={augmentation!r}. Pass the layer itself, or a layer that "
            "holds it in an attribute; for one of several inputs a dict, such as "
            "{'image': keras.layers.RandomFlip()}."
        )
    for variable in variables:
        value = scope.get_current_value(variable)
        if value is not before[id(variable)]:
            variable.assign(value)
    _check_samples(x, changed)
    return changed


def build_layers(augmentation: Augmentation, x: Nested) -> None:
    """Lets layers make their variables, which the step itself must not do."""
    for layer, given in _parts(augmentation, x):
        if isinstance(layer, keras.layers.Layer) and not all(
            one.built for one in all_layers(layer)
        ):
            layer(
                keras.tree.map_structure(
                    lambda tensor: keras.KerasTensor(
                        tensor.shape, keras.backend.standardize_dtype(tensor.dtype)
                    ),
                    given,
                ),
                training=True,
            )


def seeds_of(augmentation: Augmentation) -> list[keras.Variable]:
    """The random states of the layers, which Keras leaves out of files."""
    layers = _layers(augmentation)
    weights = {id(variable) for layer in layers for variable in layer.weights}
    variables = [variable for layer in layers for variable in layer.variables]
    return [variable for variable in variables if id(variable) not in weights]


def _called(augmentation: Augmentation, x: Nested) -> Nested:
    changed = [
        part(given, training=True) if isinstance(part, keras.layers.Layer) else part(given)
        for part, given in _parts(augmentation, x)
    ]
    if isinstance(augmentation, Mapping):
        return {**x, **dict(zip(augmentation, changed, strict=True))}
    return changed[0]


def _parts(augmentation: Augmentation, x: Nested) -> Iterator[tuple[Any, Nested]]:
    """Each layer or function with what it is given."""
    if not isinstance(augmentation, Mapping):
        yield augmentation, x
        return
    missing = [name for name in augmentation if not isinstance(x, dict) or name not in x]
    if missing:
        received = f"the inputs {list(x)}" if isinstance(x, dict) else "inputs without names"
        raise ValueError(
            f"The augmentation is for inputs that the batch does not have: {missing}. Received: "
            f"{received}. Pass inputs as a dict with these keys, or a layer or a function of all "
            "that is passed."
        )
    for name, part in augmentation.items():
        yield part, x[name]


def _layers(augmentation: Augmentation) -> list[Any]:
    parts = augmentation.values() if isinstance(augmentation, Mapping) else [augmentation]
    return [part for part in parts if isinstance(part, keras.layers.Layer)]


def _check_frozen(augmentation: Augmentation) -> None:
    for layer in _layers(augmentation):
        if layer.trainable_variables:
            raise ValueError(
                f"The augmentation '{layer.name}' has weights that would be trained, and that the "
                "student would have to do without afterwards. Received: "
                f"{[variable.path for variable in layer.trainable_variables]}. Freeze it, "
                "layer.trainable = False, or make it a part of the student."
            )


def _check_samples(x: Nested, changed: Nested) -> None:
    given, returned = (
        [leaf for leaf in keras.tree.flatten(one) if leaf is not None] for one in (x, changed)
    )
    counts = {leaf.shape[0] for leaf in given}
    are_samples = returned and all(getattr(leaf, "shape", ()) for leaf in returned)
    if are_samples and all(None in counts or leaf.shape[0] in counts for leaf in returned):
        return
    shown = [
        [f"of shape {tuple(leaf.shape)}" if hasattr(leaf, "shape") else repr(leaf) for leaf in one]
        for one in (returned, given)
    ]
    raise ValueError(
        "The augmentation must return inputs of as many samples as it is given. Received: "
        f"{shown[0] or None} for inputs {shown[1]}."
    )
