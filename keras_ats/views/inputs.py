"""The part of a batch that a model asks for by name."""

from typing import Any

import keras

from keras_ats.types import Nested
from keras_ats.views.graph import graph_inputs, has_graph


def named_inputs(model: keras.Model, x: Nested, role: str) -> Any:
    """Returns the entries of `x` that the model's inputs are named after.

    Keras gives a model with one input the first entry of a dict, whatever its key. Data that is no
    dict, and a model whose graph cannot be seen, are left to Keras.

    Args:
        model: The model.
        x: What `fit` was given.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: If there is no entry for an input.
    """
    if not isinstance(x, dict) or not has_graph(model):
        return x
    expected = graph_inputs(model)
    if isinstance(expected, dict):
        names = list(expected)
    else:
        names = [one.name for one in keras.tree.flatten(expected)]
    missing = [name for name in names if name not in x]
    if missing and len(x) == len(names) == 1:
        return x
    if missing:
        raise ValueError(
            f"The {role} '{model.name}' has inputs that the data has no entry for. Received: "
            f"{list(x)}. Expected: {names}. Name the model's inputs after the data, "
            "keras.Input(..., name=...), or the data after the inputs."
        )
    chosen = {name: x[name] for name in names}
    return chosen if isinstance(expected, dict | list | tuple) else chosen[names[0]]
