"""The graph of a Functional or Sequential model, as Keras keeps it."""

from typing import Any

import keras

from keras_ats.types import Nested
from keras_ats.views.activations import has_own_call


def graph_inputs(model: keras.Model) -> Nested:
    """The inputs of the graph, in the structure that the model is called with."""
    # A Sequential model has no graph input of its own until it is called in another graph.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def graph_outputs(model: keras.Model) -> Nested:
    """The outputs of the graph, in the structure that the model was made with."""
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def has_graph(model: keras.Model) -> bool:
    """Whether the model's layers and their order can be seen, and are what it runs."""
    return getattr(model, "outputs", None) is not None and not has_own_call(model)


def describe_without_graph(model: keras.Model) -> str:
    """A model without a graph for an error message."""
    if getattr(model, "outputs", None) is not None:
        return f"model '{model.name}' with a `call` of its own"
    if isinstance(model, keras.Sequential):
        return f"Sequential model '{model.name}', which Keras could not make a graph of,"
    return f"subclassed model '{model.name}'"


def output_names(model: keras.Model) -> list[str]:
    """The names that the model's outputs go by, in losses given by output; no two alike."""
    if has_graph(model) and isinstance(graph_outputs(model), dict):
        return list(graph_outputs(model))
    names: list[str] = []
    for name in getattr(model, "output_names", None) or [model.name]:
        # A layer that ends two outputs gives both its name.
        count = sum(other == name or other.startswith(f"{name}_") for other in names)
        names.append(f"{name}_{count}" if name in names else name)
    return names


def outputs_by_name(model: keras.Model, names: list[str]) -> dict[str, Nested]:
    """The outputs of the graph by name."""
    outputs = graph_outputs(model)
    if isinstance(outputs, dict):
        return dict(outputs)
    return dict(
        zip(names, outputs if isinstance(outputs, list | tuple) else [outputs], strict=True)
    )


def unique_name(layer: Any) -> str:
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
