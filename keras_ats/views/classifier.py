"""The layer that makes a model's logits."""

from typing import Any

import keras

from keras_ats._keras import nodes_of, producer
from keras_ats.record import Classifier
from keras_ats.views.activations import has_own_call
from keras_ats.views.endings import UnknownEndingError, find_logits
from keras_ats.views.graph import graph_outputs, has_graph
from keras_ats.views.operations import is_unchanging
from keras_ats.views.without_activation import WithoutActivation

_MEANS = ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")


def find_classifier(model: keras.Model) -> Classifier | None:
    """Returns the `Dense` layer that a model's logits come out of, and what it reads.

    Args:
        model: A model with a graph and one output.

    Returns:
        The layer, with or without an activation; None where another one makes the logits.
    """
    outputs = keras.tree.flatten(graph_outputs(model)) if has_graph(model) else []
    if len(outputs) != 1:
        return None
    try:
        node = _behind_unchanging(find_logits(outputs[0]).tensor)
    except UnknownEndingError:
        return None
    operation = node.operation
    if isinstance(operation, WithoutActivation):
        operation = operation.layer
    if isinstance(operation, keras.Model) and has_graph(operation):
        return find_classifier(operation)
    if not isinstance(operation, keras.layers.Dense) or has_own_call(operation):
        return None
    before = _behind_unchanging(node.input_tensors[0])
    if type(before.operation).__name__ in _MEANS and before.input_tensors:
        before = _behind_unchanging(before.input_tensors[0])
    is_layer = any(before is one for one in nodes_of(model))
    return Classifier(operation, before.operation.name if is_layer else None)


def _behind_unchanging(tensor: keras.KerasTensor) -> Any:
    """The call that made a tensor, or what dropout and the like got from it."""
    node = producer(tensor)
    while node.input_tensors and is_unchanging(node.operation):
        node = producer(node.input_tensors[0])
    return node
