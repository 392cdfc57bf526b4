"""Reads any classifier at its logits: finds the last softmax and looks at the tensor before it.

ATS is not invariant to a shift of the teacher's logits, so probabilities will not do, and most
models that people have end in softmax. The view shares all weights with the model, which stays as
it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ats import ops
from keras_ats._keras import call_arguments, producer
from keras_ats.types import Nested, Shape, Tensor

# At inference these return their input, so what ends in front of them is the model's ending.
_PASS_THROUGH = (keras.layers.Identity, keras.layers.Dropout)
_SOFTMAX_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}


@dataclass(frozen=True)
class LogitsView:
    """One model, read at its logits.

    Attributes:
        model: What is run; its weights are those of the viewed model.
        to_logits: Turns what `model` returns into logits.
        to_outputs: Turns what `model` returns into what the viewed model returns.
    """

    model: keras.Model
    to_logits: Callable[[Nested], Nested]
    to_outputs: Callable[[Nested], Nested]

    @property
    def output_shapes(self) -> list[Shape]:
        """Shape of each output, as far as the graph tells; a subclassed model tells nothing."""
        return [tuple(output.shape) for output in getattr(self.model, "outputs", None) or []]


@dataclass(frozen=True)
class _Ending:
    """Where the logits are, and what the model makes of them: None if it returns them as such."""

    logits: keras.KerasTensor
    activation: keras.layers.Layer | None


class _UnknownEndingError(ValueError):
    """The graph does not tell where the logits are."""


def logits_view(model: keras.Model, from_logits: bool | None, role: str) -> LogitsView:
    """Finds the logits of `model`.

    Args:
        model: A built Keras model. Sequential and Functional models, also nested, are inspected.
        from_logits: True if the model returns logits, False if it returns probabilities, None to
            find out.
        role: `"teacher"` or `"student"`, for messages.

    Returns:
        The view.

    Raises:
        ValueError: If the model's ending is not known to be logits or softmax.
    """
    # A subclassed model may say so itself.
    if from_logits is None and getattr(model, "returns_logits", None) is not None:
        from_logits = model.returns_logits
    if from_logits is True:
        return LogitsView(model, _same, _same)
    if getattr(model, "outputs", None) is None:
        if from_logits is None:
            raise ValueError(
                f"The {role} '{model.name}' is a subclassed model, so whether it returns logits "
                f"cannot be read off its graph. Pass {role}_from_logits=True if it returns logits "
                f"(best), or {role}_from_logits=False if it ends in softmax; or give its class an "
                "attribute `returns_logits`."
            )
        return _from_probabilities(model)
    return _read_off_graph(model, from_logits, role)


def _read_off_graph(model: keras.Model, from_logits: bool | None, role: str) -> LogitsView:
    outputs = _graph_outputs(model)
    try:
        endings = keras.tree.map_structure(_ending, outputs)
    except _UnknownEndingError as error:
        if from_logits is False:
            return _from_probabilities(model)
        raise ValueError(
            f"The {role} '{model.name}' ends in {error}. Expected: a linear layer (logits) or a "
            f"softmax over the last axis. Pass {role}_from_logits=True if these are logits, "
            f"{role}_from_logits=False if they are probabilities, or give the model an ending of "
            "that kind."
        ) from None
    if any(ending.activation is not None for ending in keras.tree.flatten(endings)):
        return _at_endings(model, endings, outputs)
    if from_logits is False:
        raise ValueError(
            f"The {role} '{model.name}' ends in a linear layer, which gives logits. Received: "
            f"{role}_from_logits=False, which says probabilities. Leave it out."
        )
    return LogitsView(model, _same, _same)


def _at_endings(model: keras.Model, endings: Any, outputs: Nested) -> LogitsView:
    def activate(ending: _Ending, output: keras.KerasTensor, logits: Tensor) -> Tensor:
        if ending.activation is None:
            return logits
        probabilities = ending.activation(logits)
        if keras.backend.standardize_dtype(probabilities.dtype) == output.dtype:
            return probabilities
        # A linear layer of another precision may follow the softmax. Cast by a layer, not by
        # `ops.cast`, which would lose the Keras mask.
        return keras.layers.Activation("linear", dtype=output.dtype)(probabilities)

    return LogitsView(
        keras.Model(
            _graph_inputs(model),
            keras.tree.map_structure(lambda ending: ending.logits, endings),
            name=f"{model.name}_logits",
        ),
        _same,
        lambda logits: keras.tree.map_structure(activate, endings, outputs, logits),
    )


def output_names(model: keras.Model) -> list[str]:
    """The names that the model's outputs go by, in losses given by output."""
    if getattr(model, "outputs", None) is not None:
        structure = _graph_outputs(model)
        if isinstance(structure, dict):
            return list(structure)
    return getattr(model, "output_names", None) or [model.name]


def _from_probabilities(model: keras.Model) -> LogitsView:
    return LogitsView(
        model,
        lambda outputs: keras.tree.map_structure(ops.centered_log_probabilities, outputs),
        _same,
    )


def _same(outputs: Nested) -> Nested:
    return outputs


def _graph_inputs(model: keras.Model) -> Nested:
    # A Sequential model has no graph input of its own until it is called in another graph.
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _graph_outputs(model: keras.Model) -> Nested:
    return model.outputs[0] if isinstance(model, keras.Sequential) else model.output


def _ending(tensor: keras.KerasTensor) -> _Ending:
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
        before = _ending(inputs)
        return before if before.activation is not None else _Ending(tensor, None)
    if kind == "linear":
        return _Ending(tensor, None)
    if kind in ("softmax", "log_softmax"):
        if isinstance(operation, keras.layers.Layer):
            inputs = _WithoutActivation(operation, owner, kind)(inputs)
        # A fresh layer: Keras's Softmax layer reads a Keras mask as a mask over classes.
        policy = getattr(owner, "dtype_policy", None)
        return _Ending(inputs, keras.layers.Activation(kind, dtype=policy))
    raise _UnknownEndingError(_describe(operation))


def _nested_ending(tensor: keras.KerasTensor, inner: keras.Model, node: Any) -> _Ending:
    if getattr(inner, "outputs", None) is None:
        raise _UnknownEndingError(f"the subclassed model '{inner.name}'")
    index = next(i for i, output in enumerate(node.outputs) if output is tensor)
    ending = _ending(inner.outputs[index])
    if ending.activation is None:
        return _Ending(tensor, None)
    view = keras.Model(_graph_inputs(inner), ending.logits, name=_unique_name(inner))
    args, kwargs = call_arguments(node)
    return _Ending(view(*args, **kwargs), ending.activation)


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


def _describe(operation: Any) -> str:
    kind = f"{type(operation).__name__} '{operation.name}'"
    activation = getattr(operation, "activation", None)
    if activation is None:
        return kind
    return f"{kind} with activation '{getattr(activation, '__name__', activation)}'"


def _unique_name(layer: keras.layers.Layer) -> str:
    # Unlike any name of the user's, and another one when a shared layer ends two outputs.
    return f"{layer.name}_logits_{keras.backend.get_uid('keras_ats_logits')}"


class _WithoutActivation(keras.layers.Layer):
    """Calls a layer of the user's as if it had no activation."""

    def __init__(self, layer: keras.layers.Layer, owner: keras.layers.Layer, kind: str) -> None:
        super().__init__(name=_unique_name(layer), dtype=layer.dtype_policy)
        self.activation = getattr(keras.activations, kind)
        self.layer = layer
        self.owner = owner
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        layer, owner = self.layer, self.owner
        regularizer = layer.activity_regularizer
        if isinstance(owner, (keras.layers.Activation, keras.layers.Softmax)):
            logits = inputs
        else:
            # Taken off only for the length of this call, which keeps every other property of the
            # layer (quantisation, LoRA, precision) without knowing of it.
            activation = owner.activation
            owner.activation = layer.activity_regularizer = None
            try:
                logits = layer(inputs)
            finally:
                owner.activation, layer.activity_regularizer = activation, regularizer
        if regularizer is not None:
            loss = regularizer(self.activation(logits))
            layer.add_loss(loss / keras.ops.cast(keras.ops.shape(logits)[0], loss.dtype))
        return logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)
