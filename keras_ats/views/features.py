"""Inner layers of a model, read beside its logits."""

import difflib

import keras

from keras_ats.types import Nested
from keras_ats.views.graph import describe_without_graph, graph_inputs, has_graph


def at_layers(
    source: keras.Model, logits: Nested, names: tuple[str, ...], role: str
) -> keras.Model:
    """Returns a model that gives `{"logits": ..., "features": {name: ...}}`; weights are shared.

    Args:
        source: The user's model, which has the layers.
        logits: Tensors of its graph that are its logits.
        names: Names of layers.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: If there is no such layer, or its output cannot be read.
    """
    if not has_graph(source):
        raise ValueError(
            f"The {role} is the {describe_without_graph(source)}, so its inner layers cannot be "
            f"read off its graph. Received: the layers {list(names)}. Expected: a Sequential or "
            "Functional model."
        )
    features = {name: _output_of(source, name, role) for name in names}
    return keras.Model(
        graph_inputs(source),
        {"logits": logits, "features": features},
        name=f"{source.name}_features",
    )


def _output_of(source: keras.Model, name: str, role: str) -> keras.KerasTensor:
    layers = {layer.name: layer for layer in source.layers}
    if name not in layers:
        close = difflib.get_close_matches(name, layers, n=3, cutoff=0.0)
        raise ValueError(
            f"The {role} '{source.name}' has no layer of this name. Received: {name!r}. The "
            f"nearest are {close}."
        )
    try:
        return layers[name].output
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"The output of the {role}'s layer '{name}' cannot be read: {error}"
        ) from None
