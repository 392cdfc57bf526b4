"""Where the logits of a model are: its graph followed back from an output."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_ats._keras import (
    call_apart,
    call_arguments,
    get_keras_mask,
    producer,
    refilled_arguments,
)
from keras_ats.views.activations import ACTIVATIONS, Ending, activation_of
from keras_ats.views.graph import (
    describe,
    describe_without_graph,
    graph_inputs,
    has_graph,
    unique_name,
)
from keras_ats.views.operations import is_exchangeable, is_linear, is_unchanging
from keras_ats.views.twins import twin_of
from keras_ats.views.without_activation import WithoutActivation


@dataclass(frozen=True)
class FoundLogits:
    """Logits within a graph, and what the model makes of them.

    Attributes:
        tensor: The logits. What leads to them is the model's graph, and behind it perhaps layers
            of ours, of which the model's graph takes no note.
        ending: `"logits"` if the model returns them as such, else its activation.
        dtype: Type of what the activation returns.
    """

    tensor: keras.KerasTensor
    ending: Ending = "logits"
    dtype: str | None = None


class UnknownEndingError(ValueError):
    """The graph does not tell where the logits are."""


def find_logits(tensor: keras.KerasTensor) -> FoundLogits:
    """Follows the graph back from an output to its logits.

    Raises:
        UnknownEndingError: If there is anything on the way that may not be left out.
    """
    node = producer(tensor)
    operation = node.operation
    if node.is_input:
        raise UnknownEndingError(f"the input '{tensor.name}'")
    if isinstance(operation, keras.Model):
        return _in_nested_model(tensor, operation, node)
    if is_unchanging(operation) and keras.backend.is_float_dtype(tensor.dtype):
        found = find_logits(node.input_tensors[0])
        return FoundLogits(tensor) if found.ending == "logits" else found
    if is_linear(operation):
        return _through(tensor, operation, node)
    activation = activation_of(operation, tuple(tensor.shape))
    if activation == "linear":
        return _linear_end(tensor, operation, node)
    logits, *others = node.input_tensors
    # Keras hands a mask on by itself; one that is given by hand forbids classes.
    others = [other for other in others if other is not get_keras_mask(logits)]
    if activation not in ACTIVATIONS or others:
        raise UnknownEndingError(describe(operation))
    if isinstance(operation, keras.layers.Layer):
        logits = call_apart(WithoutActivation(operation, activation), logits)
    return FoundLogits(logits, activation, tensor.dtype)


def _linear_end(tensor: keras.KerasTensor, operation: Any, node: Any) -> FoundLogits:
    """At a layer without activation; `Activation("linear")` only hands on what it gets."""
    if not isinstance(operation, keras.layers.Activation):
        return FoundLogits(tensor)
    found = find_logits(node.input_tensors[0])
    if found.ending == "logits":
        return FoundLogits(tensor)
    if operation.activity_regularizer is not None:
        raise UnknownEndingError(describe(operation))
    return found


def _through(tensor: keras.KerasTensor, operation: Any, node: Any) -> FoundLogits:
    """At an operation that combines logits, or moves what an activation returns."""
    try:
        found = [find_logits(before) for before in node.input_tensors]
    except UnknownEndingError as error:
        raise UnknownEndingError(f"{describe(operation)} after {error}") from None
    endings = {one.ending for one in found}
    if endings == {"logits"}:
        return FoundLogits(tensor)
    ending = found[0].ending
    if len(endings) > 1 or not is_exchangeable(operation, node, ending):
        raise UnknownEndingError(f"{describe(operation)} after {' and '.join(sorted(endings))}")
    moved = twin_of(operation, name=unique_name(operation), _inbound_nodes=[], _outbound_nodes=[])
    logits = {id(before): one.tensor for before, one in zip(node.input_tensors, found, strict=True)}
    args, kwargs = refilled_arguments(node, logits)
    return FoundLogits(call_apart(moved, *args, **kwargs), ending, found[0].dtype)


def _in_nested_model(tensor: keras.KerasTensor, inner: keras.Model, node: Any) -> FoundLogits:
    if not has_graph(inner):
        if getattr(inner, "returns_logits", None) is True:
            return FoundLogits(tensor)
        raise UnknownEndingError(f"the {describe_without_graph(inner)}")
    index = next(i for i, output in enumerate(node.outputs) if output is tensor)
    found = find_logits(inner.outputs[index])
    if found.ending == "logits":
        return FoundLogits(tensor)
    view = keras.Model(graph_inputs(inner), found.tensor, name=unique_name(inner))
    args, kwargs = call_arguments(node)
    return FoundLogits(call_apart(view, *args, **kwargs), found.ending, found.dtype)
