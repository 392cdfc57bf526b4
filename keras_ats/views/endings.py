"""Where the logits of a model are: its graph followed back from an output."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ats._keras import call_arguments, producer
from keras_ats.types import Shape
from keras_ats.views.graph import describe, graph_inputs, has_graph, unique_name
from keras_ats.views.without_activation import WithoutActivation

# At inference these return their input, so what ends in front of them is the model's ending.
_PASS_THROUGH = (keras.layers.Identity, keras.layers.Dropout)
_SOFTMAX_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}


@dataclass(frozen=True)
class Ending:
    """Where the logits are, and what the model makes of them: None if it returns them as such."""

    logits: keras.KerasTensor
    activation: keras.layers.Layer | None


class UnknownEndingError(ValueError):
    """The graph does not tell where the logits are."""


def find_ending(tensor: keras.KerasTensor) -> Ending:
    """Follows the graph back from an output to its logits."""
    node = producer(tensor)
    operation = node.operation
    if isinstance(operation, keras.Model):
        return _nested_ending(tensor, operation, node)
    # What a wrapper wraps decides; any other layer is its own owner.
    wrapped = isinstance(operation, keras.layers.TimeDistributed)
    owner = operation.layer if wrapped else operation
    inputs = node.input_tensors[0]
    kind = _kind(owner, tuple(tensor.shape[1:] if wrapped else tensor.shape))
    if kind == "same" and getattr(operation, "activity_regularizer", None) is None:
        before = find_ending(inputs)
        return before if before.activation is not None else Ending(tensor, None)
    if kind == "linear":
        return Ending(tensor, None)
    if kind in ("softmax", "log_softmax"):
        if isinstance(operation, keras.layers.Layer):
            inputs = WithoutActivation(operation, owner, kind)(inputs)
        # A fresh layer: Keras's Softmax layer reads a Keras mask as a mask over classes.
        policy = getattr(owner, "dtype_policy", None)
        return Ending(inputs, keras.layers.Activation(kind, dtype=policy))
    raise UnknownEndingError(describe(operation))


def _nested_ending(tensor: keras.KerasTensor, inner: keras.Model, node: Any) -> Ending:
    if not has_graph(inner):
        raise UnknownEndingError(f"the subclassed model '{inner.name}'")
    index = next(i for i, output in enumerate(node.outputs) if output is tensor)
    ending = find_ending(inner.outputs[index])
    if ending.activation is None:
        return Ending(tensor, None)
    view = keras.Model(graph_inputs(inner), ending.logits, name=unique_name(inner))
    args, kwargs = call_arguments(node)
    return Ending(view(*args, **kwargs), ending.activation)


def _kind(operation: Any, shape: Shape) -> str:
    """What an operation does last: softmax, log_softmax, linear; "same" if it changes nothing."""
    # A class with a `call` of its own may do anything after its activation, or never call it.
    if not type(operation).call.__module__.startswith("keras."):
        return "unknown"
    if isinstance(operation, _PASS_THROUGH):
        return "same"
    # The layer `Softmax` and the operations behind `ops.softmax` and `ops.log_softmax`.
    if type(operation).__name__ in _SOFTMAX_OPERATIONS:
        last = operation.axis in (-1, len(shape) - 1)
        return _SOFTMAX_OPERATIONS[type(operation).__name__] if last else "unknown"
    # The activation of a recurrent layer is within its loop, not at its end.
    if not hasattr(operation, "activation") or isinstance(operation, keras.layers.RNN):
        return "unknown"
    kind = _kind_of_function(operation.activation, shape)
    return "same" if kind == "linear" and isinstance(operation, keras.layers.Activation) else kind


def _kind_of_function(activation: Any, shape: Shape) -> str:
    for kind in ("linear", "softmax", "log_softmax"):
        if keras.activations.get(activation) is getattr(keras.activations, kind):
            return kind
    # Softmax has many names (`tf.nn.softmax_v2`, a lambda, a layer) and other functions have its
    # name, so what is not Keras's own is tried out.
    sizes = [size or index + 2 for index, size in enumerate(shape)]
    logits = 3 * np.sin(np.arange(math.prod(sizes), dtype="float32")).reshape(sizes)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    try:
        with keras.StatelessScope():
            result = activation(keras.ops.convert_to_tensor(logits))
        result = keras.ops.convert_to_numpy(result)
    except Exception:  # It is the user's code: whatever it raises, it is not known.
        return "unknown"
    tried = {"linear": logits, "softmax": np.exp(log_p), "log_softmax": log_p}
    return next(
        (
            kind
            for kind, expected in tried.items()
            if result.shape == expected.shape and np.allclose(result, expected, atol=1e-5)
        ),
        "unknown",
    )
