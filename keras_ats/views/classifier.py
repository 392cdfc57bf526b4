"""The layer that makes a model's logits."""

import keras

from keras_ats._keras import producer
from keras_ats.views.activations import has_own_call
from keras_ats.views.endings import UnknownEndingError, find_logits
from keras_ats.views.graph import graph_outputs, has_graph
from keras_ats.views.operations import is_unchanging
from keras_ats.views.without_activation import WithoutActivation


def find_classifier(model: keras.Model) -> keras.layers.Dense | None:
    """Returns the `Dense` layer that a model's logits come out of.

    Args:
        model: A model with a graph and one output.

    Returns:
        The layer, with or without an activation; None where another one makes the logits.
    """
    if not has_graph(model):
        return None
    outputs = keras.tree.flatten(graph_outputs(model))
    if len(outputs) != 1:
        return None
    try:
        tensor = find_logits(outputs[0]).tensor
    except UnknownEndingError:
        return None
    operation, node = producer(tensor).operation, producer(tensor)
    while is_unchanging(operation) and node.input_tensors:
        node = producer(node.input_tensors[0])
        operation = node.operation
    if isinstance(operation, WithoutActivation):
        operation = operation.layer
    if isinstance(operation, keras.Model) and has_graph(operation):
        return find_classifier(operation)
    is_dense = isinstance(operation, keras.layers.Dense) and not has_own_call(operation)
    return operation if is_dense else None
