"""What arrays of samples must be. Each error says what came, what is expected and what to do."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def checked_features(features: Any) -> Array:
    """Returns the features as an array, or raises if they are neither bytes nor float32."""
    array = np.asarray(features)
    if array.dtype not in (np.uint8, np.float32) or array.ndim < 2 or not len(array):
        raise ValueError(
            "Features must be uint8 from 0 to 255, as (n, height, width, channels), or float32. "
            f"Received: {array.dtype} of shape {array.shape}. Convert other floats with "
            "`.astype('float32')`, and give a single sample a leading axis of 1."
        )
    return array


def checked_labels(labels: Any, count: int) -> Array:
    """Returns the labels as int32 `(n,)`, or raises if they are not one class id per sample."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # As keras.datasets.cifar10 gives them.
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise ValueError(
            f"Labels must be {count} class ids from 0 up, one per sample. Received: {array.dtype} "
            f"of shape {array.shape}. Turn one-hot rows into ids with `labels.argmax(axis=-1)`."
        )
    return array.astype(np.int32)


def checked_ids(ids: Any, count: int) -> Array:
    """Returns the ids as int64 `(n,)`, or raises if they do not tell the samples apart."""
    array = np.arange(count) if ids is None else np.asarray(ids)
    is_one_each = array.shape == (count,) and np.issubdtype(array.dtype, np.integer)
    if not is_one_each or array.min() < 0 or len(np.unique(array)) != count:
        raise ValueError(
            f"`ids` must be {count} different integers from 0 up. Received: {array.dtype} of "
            f"shape {array.shape}. Leave them out to number the samples."
        )
    return array.astype(np.int64)


def checked_class_names(names: Sequence[str] | None, labels: Array) -> tuple[str, ...]:
    """Returns the names, by default the class ids, or raises if labels have no name."""
    needed = int(labels.max()) + 1
    if names is None:
        return tuple(map(str, range(needed)))
    if len(names) < needed:
        raise ValueError(
            f"There must be a name for each class. Received: {len(names)} class_names, and labels "
            f"up to {needed - 1}. Labels count from 0."
        )
    return tuple(names)
