"""What runs are made of, told apart by short descriptions."""

import zlib
from typing import Any

import keras
import numpy as np

from keras_ats.types import Config


def of_model(model: Any) -> Any:
    """Returns what tells a model from another: its weights; of anything else its type.

    Args:
        model: A model, or a teacher that is none.
    """
    if not isinstance(model, keras.Model):
        return type(model).__name__
    return [_of_array(keras.ops.convert_to_numpy(one)) for one in model.weights]


def of_shapes(model: keras.Model) -> list[list[int]]:
    """Returns the shapes of a model's weights, which all students have in common."""
    return [list(one.shape) for one in model.weights]


def of_data(data: Any) -> Any:
    """Returns what tells arrays from others, content included; of a pipeline its type."""
    leaves = keras.tree.flatten(data)
    if isinstance(data, tuple) and all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return [_of_array(leaf) for leaf in leaves]
    return [type(leaf).__name__ for leaf in leaves]


def of_loss(loss: Any) -> Config | str:
    """Returns what tells a supervised loss from another."""
    if isinstance(loss, keras.losses.Loss):
        # Keras counts losses in their names.
        return {"class": type(loss).__name__, **loss.get_config(), "name": None}
    return str(getattr(loss, "__name__", loss))


def _of_array(array: np.ndarray) -> list[Any]:
    # What is pointed at lies elsewhere in another process.
    content = None if array.dtype.hasobject else zlib.crc32(array.tobytes())
    return [list(array.shape), array.dtype.name, content]
