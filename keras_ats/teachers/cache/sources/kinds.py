"""Which kind of data this is."""

from typing import Any

import keras

from keras_ats.data.samples import Samples
from keras_ats.teachers.cache.sources.in_memory import FromArrays, FromSamples
from keras_ats.teachers.cache.sources.seeded import FromBatches, FromItems
from keras_ats.teachers.cache.sources.source import Source
from keras_ats.teachers.cache.sources.tf_dataset import FromDataset, is_tf_dataset
from keras_ats.types import Config

_EXPECTED = (
    "Expected: keras_ats.data.Samples, arrays as (x, y), a tf.data.Dataset of (x, y, ids), a "
    "map-style torch Dataset, or a keras.utils.PyDataset."
)


def kind_of(data: Any) -> type[Source]:
    """Returns the class of sources that this is data for, or raises if there is none."""
    if isinstance(data, Samples):
        return FromSamples
    if is_tf_dataset(data):
        return FromDataset
    if isinstance(data, keras.utils.PyDataset):
        return FromBatches
    if is_arrays(data):
        return FromArrays
    if hasattr(data, "batch_sampler"):
        raise TypeError(
            "`data` must be the Dataset, not its DataLoader, whose order is not known. Received: "
            f"{type(data).__name__}. Pass loader.dataset, and make the loader of what "
            "cache.attach(dataset) returns."
        )
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str):
        if isinstance(data, bytes | dict | list | tuple) or not len(data):
            raise TypeError(f"`data` is of no known kind. Received: data={data!r}. {_EXPECTED}")
        return FromItems
    if hasattr(data, "__iter__") and not isinstance(data, str | bytes):
        raise TypeError(
            "`data` has no ids and no places, so what is cached could not be found again. "
            f"Received: {type(data).__name__}. {_EXPECTED}"
        )
    raise TypeError(f"`data` is of no known kind. Received: data={data!r}. {_EXPECTED}")


def source_of(data: Any, ids: Any, seed: int, options: Config) -> Source:
    """Returns the source of data.

    Args:
        data: What `cache_teacher` was given.
        ids: Of arrays; None for all other kinds.
        seed: Of views.
        options: What is for `Samples` alone, by name; None where it was left out.
    """
    kind = kind_of(data)
    given = {name: value for name, value in options.items() if value is not None}
    if kind is FromSamples:
        _only_for("arrays", {"ids": ids} if ids is not None else {})
        return FromSamples(data, seed=seed, **{"augment": True, **given})
    _only_for("keras_ats.data.Samples", given)
    if kind is FromArrays:
        x, y = data if isinstance(data, tuple) else (data, None)
        return FromArrays(x, y, ids)
    _only_for("arrays", {"ids": ids} if ids is not None else {})
    if kind is FromDataset:
        return FromDataset(data)
    return FromItems(data, seed) if kind is FromItems else FromBatches(data, seed)


def is_arrays(data: Any) -> bool:
    """Whether this is an array, a nest of them as `x`, or a tuple of `x` and `y`."""
    if isinstance(data, tuple):
        return len(data) == 2 and all(map(_is_nest, data))
    return _is_nest(data)


def _is_nest(data: Any) -> bool:
    if isinstance(data, dict | list | tuple):
        leaves = keras.tree.flatten(data)
        return bool(leaves) and all(map(_is_array, leaves))
    return _is_array(data)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and bool(len(value.shape))


def _only_for(kind: str, given: Config) -> None:
    if given:
        name, value = next(iter(given.items()))
        raise ValueError(
            f"`{name}` is for {kind} alone. Received: {name}={value!r} with data of another kind. "
            "Leave it out: the data is shown to the teacher as it is."
        )
