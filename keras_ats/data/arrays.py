"""What samples are made of. Each error says what came, what is expected and what to do."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

MOST_CLASSES = 1_000_000
"""Each class gets a name; a label beyond is no class id, but a number of another kind."""


def checked_features(features: Any) -> Array:
    """Returns the features as an array, or raises if they are neither bytes nor float32."""
    array = _as_array(features, "Features")
    if array.dtype not in (np.uint8, np.float32) or array.ndim < 2 or not array.size:
        raise ValueError(
            "Features must be uint8 from 0 to 255, as (n, height, width, channels), or float32. "
            f"Received: {array.dtype} of shape {array.shape}. Convert other floats with "
            "`.astype('float32')`, and give a single sample a leading axis of 1."
        )
    # Both are NaN where one value is.
    if array.dtype == np.float32 and not np.all(np.isfinite([array.min(), array.max()])):
        raise ValueError(
            "Features must be finite. Received: float32 with NaN or infinity in it. Leave out the "
            "samples, or put a number in place: np.nan_to_num(features)."
        )
    return array


def checked_labels(labels: Any, count: int) -> Array:
    """Returns the labels as int32 `(n,)`, or raises if they are not one class id per sample."""
    array = _as_array(labels, "Labels")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # As keras.datasets.cifar10 gives them.
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise ValueError(
            f"Labels must be {count} class ids from 0 up, one per sample. Received: {array.dtype} "
            f"of shape {array.shape}. Turn one-hot rows into ids with `labels.argmax(axis=-1)`."
        )
    if array.max() >= MOST_CLASSES:
        raise ValueError(
            f"Labels must be class ids from 0 up, below {MOST_CLASSES}. Received: labels up to "
            f"{array.max()}. Number the classes: labels = np.unique(labels, return_inverse=True)[1]"
        )
    return array.astype(np.int32, copy=False)


def checked_ids(ids: Any, count: int) -> Array:
    """Returns the ids as int64 `(n,)`, or raises if they do not tell the samples apart."""
    array = np.arange(count) if ids is None else _as_array(ids, "`ids`")
    is_one_each = array.shape == (count,) and np.issubdtype(array.dtype, np.integer)
    # Unsigned ones may be too large for int64.
    in_range = is_one_each and array.min() >= 0 and array.max() <= np.iinfo(np.int64).max
    if not in_range or len(np.unique(array)) != count:
        raise ValueError(
            f"`ids` must be {count} different integers from 0 up. Received: {array.dtype} of "
            f"shape {array.shape}. Leave them out to number the samples."
        )
    return array.astype(np.int64, copy=False)


def checked_class_names(names: Sequence[str] | None, labels: Array) -> tuple[str, ...]:
    """Returns the names, by default the class ids, or raises if labels have no name."""
    needed = int(labels.max()) + 1
    if names is None:
        return tuple(map(str, range(needed)))
    # A string is a sequence of strings, but hardly of classes.
    is_list = isinstance(names, Sequence | np.ndarray) and not isinstance(names, str)
    if not is_list or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "`class_names` must be a sequence of strings, one for each class. Received: "
            f"class_names={names!r}. Leave them out to name classes by their ids."
        )
    if len(names) < needed:
        raise ValueError(
            f"There must be a name for each class. Received: {len(names)} class_names, and labels "
            f"up to {needed - 1}. Labels count from 0."
        )
    return tuple(map(str, names))


def check_words(name: Any, kind: Any) -> None:
    """Raises if the name is no string, or the kind none of the two."""
    if not isinstance(name, str):
        raise TypeError(
            f"`name` must be a string, such as 'cifar10/train'. Received: name={name!r} of type "
            f"{type(name).__name__}."
        )
    if not isinstance(kind, str) or kind not in ("images", "spectrograms"):
        raise ValueError(f"`kind` must be 'images' or 'spectrograms'. Received: kind={kind!r}.")


def _as_array(values: Any, what: str) -> Array:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{what} must be an array. Received: {type(values).__name__}, of which NumPy makes "
            f"none: {error} Give every sample the same shape, on the CPU."
        ) from error
