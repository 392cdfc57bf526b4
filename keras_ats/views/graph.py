"""The graph of a Functional or Sequential model, as Keras keeps it."""

from typing import Any

import keras

from keras_ats.types import Nested


def graph_inputs(model: keras.Model) -> Nested:
    """The inputs of the graph, in the structure that the model is called with."""
    # A Sequential model has no graph input of its own until it is called in another graph.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def graph_outputs(model: keras.Model) -> Nested:
    """The outputs of the graph, in the structure that the model returns."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def has_graph(model: keras.Model) -> bool:
    """Whether the model's layers and their order can be seen."""
    return getattr(model, "outputs", None) is not None


def output_names(model: keras.Model) -> list[str]:
    """The names that the model's outputs go by, in losses given by output."""
    if has_graph(model):
        structure = graph_outputs(model)
        if isinstance(structure, dict):
            return list(structure)
    return getattr(model, "output_names", None) or [model.name]


def unique_name(layer: keras.layers.Layer) -> str:
    """A name for what stands in for a layer."""
    # Unlike any name of the user's, and another one when a shared layer ends two outputs.
    return f"{layer.name}_logits_{keras.backend.get_uid('keras_ats_logits')}"


def describe(operation: Any) -> str:
    """A layer or operation for an error message."""
    kind = f"{type(operation).__name__} '{operation.name}'"
    activation = getattr(operation, "activation", None)
    if activation is None:
        return kind
    return f"{kind} with activation '{getattr(activation, '__name__', activation)}'"
