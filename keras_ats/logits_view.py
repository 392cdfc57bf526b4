"""Reads any classifier at its logits: finds the last softmax and looks at the tensor before it.

ATS is not invariant to a shift of the teacher's logits, so probabilities will not do, and most
models that people have end in softmax. The view shares all weights with the model, which stays as
it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_ats import ops
from keras_ats._keras import call_arguments, producer
from keras_ats.types import Nested, Shape, Tensor

_SOFTMAX_NAMES = ("softmax", "log_softmax", "softmax_v2", "log_softmax_v2")
# At inference these return their input, so what ends in front of them is the model's ending.
_PASS_THROUGH = (keras.layers.Identity, keras.layers.Dropout)


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
    if from_logits is True:
        return LogitsView(model, _same, _same)
    if getattr(model, "outputs", None) is None:
        if from_logits is None:
            raise ValueError(
                f"The {role} '{model.name}' is a subclassed model, so whether it returns logits "
                f"cannot be read off its graph. Pass {role}_from_logits=True if it returns logits "
                f"(best), or {role}_from_logits=False if it ends in softmax."
            )
        return _from_probabilities(model)
    try:
        endings = keras.tree.map_structure(_ending, _graph_outputs(model))
    except _UnknownEndingError as error:
        if from_logits is False:
            return _from_probabilities(model)
        raise ValueError(
            f"The {role} '{model.name}' ends in {error}. Expected: a linear layer (logits) or a "
            f"softmax over the last axis. Pass {role}_from_logits=True if these are logits, or "
            f"give the model an ending of that kind."
        ) from None
    if all(ending.activation is None for ending in keras.tree.flatten(endings)):
        return LogitsView(model, _same, _same)
    return LogitsView(
        keras.Model(
            _graph_inputs(model),
            keras.tree.map_structure(lambda ending: ending.logits, endings),
            name=f"{model.name}_logits",
        ),
        _same,
        lambda logits: keras.tree.map_structure(_activate, endings, logits),
    )


def _from_probabilities(model: keras.Model) -> LogitsView:
    return LogitsView(
        model,
        lambda outputs: keras.tree.map_structure(ops.centered_log_probabilities, outputs),
        _same,
    )


def _same(outputs: Nested) -> Nested:
    return outputs


def _activate(ending: _Ending, logits: Tensor) -> Tensor:
    return logits if ending.activation is None else ending.activation(logits)


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
    if isinstance(operation, _PASS_THROUGH) or _is_linear_activation(operation):
        before = _ending(node.input_tensors[0])
        return before if before.activation is not None else _Ending(tensor, None)
    time_distributed = isinstance(operation, keras.layers.TimeDistributed)
    owner = operation.layer if time_distributed else operation
    if _is_softmax_operation(operation, rank=len(tensor.shape)):
        return _Ending(node.input_tensors[0], _activation_layer(operation))
    activation = getattr(owner, "activation", _MISSING)
    if activation is _MISSING or isinstance(operation, keras.layers.Activation):
        raise _UnknownEndingError(_describe(operation))
    if _name(activation) == "linear":
        return _Ending(tensor, None)
    if _name(activation) in _SOFTMAX_NAMES or isinstance(activation, keras.layers.Softmax):
        (inputs, *_), _ = call_arguments(node)
        logits = _WithoutActivation(operation, owner)(inputs)
        return _Ending(logits, keras.layers.Activation(activation, dtype=owner.dtype_policy))
    raise _UnknownEndingError(_describe(operation))


def _nested_ending(tensor: keras.KerasTensor, inner: keras.Model, node: Any) -> _Ending:
    if getattr(inner, "outputs", None) is None:
        raise _UnknownEndingError(f"the subclassed model '{inner.name}'")
    index = next(i for i, output in enumerate(node.outputs) if output is tensor)
    ending = _ending(inner.outputs[index])
    if ending.activation is None:
        return _Ending(tensor, None)
    view = keras.Model(_graph_inputs(inner), ending.logits, name=f"{inner.name}_logits")
    args, kwargs = call_arguments(node)
    return _Ending(view(*args, **kwargs), ending.activation)


_MISSING = object()


def _is_linear_activation(operation: Any) -> bool:
    return (
        isinstance(operation, keras.layers.Activation) and _name(operation.activation) == "linear"
    )


def _is_softmax_operation(operation: Any, rank: int) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return _name(operation.activation) in _SOFTMAX_NAMES
    # The layer `Softmax` and the operations behind `ops.softmax` and `ops.log_softmax`.
    if type(operation).__name__ in ("Softmax", "LogSoftmax"):
        return operation.axis in (-1, rank - 1)
    return False


def _activation_layer(operation: Any) -> keras.layers.Layer:
    if isinstance(operation, keras.layers.Activation):
        return operation
    name = "log_softmax" if type(operation).__name__ == "LogSoftmax" else "softmax"
    # A fresh layer: Keras's Softmax layer reads a Keras mask as a mask over classes.
    return keras.layers.Activation(name, dtype=getattr(operation, "dtype_policy", None))


def _name(activation: Any) -> str:
    return "linear" if activation is None else getattr(activation, "__name__", "")


def _describe(operation: Any) -> str:
    activation = getattr(operation, "activation", None)
    kind = f"{type(operation).__name__} '{operation.name}'"
    return kind if activation is None else f"{kind} with activation '{_name(activation)}'"


class _WithoutActivation(keras.layers.Layer):
    """Calls a layer of the user's as if it had no activation."""

    def __init__(self, layer: keras.layers.Layer, owner: keras.layers.Layer) -> None:
        super().__init__(name=f"{layer.name}_logits", dtype=layer.dtype_policy)
        self.layer = layer
        self.owner = owner
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        # Taken off only for the length of this call, which keeps every other property of the
        # layer (quantisation, LoRA, precision) without knowing of it.
        layer, owner = self.layer, self.owner
        activation, regularizer = owner.activation, layer.activity_regularizer
        owner.activation, layer.activity_regularizer = keras.activations.linear, None
        try:
            logits = layer(inputs)
        finally:
            owner.activation, layer.activity_regularizer = activation, regularizer
        if regularizer is not None:
            batch_size = keras.ops.cast(keras.ops.shape(logits)[0], "float32")
            layer.add_loss(regularizer(activation(logits)) / batch_size)
        return logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)
