"""What a model does last, and how it is known."""

import math
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_ats.types import Shape

Activation = Literal["softmax", "log_softmax", "sigmoid", "log_sigmoid"]
"""What turns logits into probabilities or their logarithms."""

Ending = Literal[Activation, "logits", "probabilities", "unknown"]
"""What a model returns: `"logits"` as such, or what an activation makes of them; `"probabilities"`
are said to be some, of a kind that nobody knows yet; `"unknown"` cannot be read."""

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
# The operations behind `keras.ops`, and the layer `Softmax`.
_OPERATIONS: dict[str, Activation] = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log_sigmoid",
}


def family_of(ending: Ending) -> Literal["softmax", "sigmoid"] | None:
    """Returns whether classes exclude each other, `"softmax"`, or not; None if nobody knows."""
    if ending in ("softmax", "log_softmax"):
        return "softmax"
    return "sigmoid" if ending in ("sigmoid", "log_sigmoid") else None


def has_own_call(operation: Any) -> bool:
    """Whether what runs is code of the user's, which may do anything."""
    kind = type(operation)
    return (
        "call" in vars(operation)
        or not kind.call.__module__.startswith("keras.")
        or not kind.__call__.__module__.startswith("keras.")
    )


def activation_of(operation: Any, shape: Shape) -> str:
    """Returns the activation at the end of an operation, `"linear"` or `"unknown"`.

    Args:
        operation: A layer or operation of a graph.
        shape: Shape of its result.
    """
    if has_own_call(operation):
        return "unknown"
    if isinstance(operation, keras.layers.TimeDistributed):
        return activation_of(operation.layer, shape[1:])
    name = type(operation).__name__
    if name in _OPERATIONS:
        over_classes = getattr(operation, "axis", -1) in (-1, len(shape) - 1)
        return _OPERATIONS[name] if over_classes else "unknown"
    # The activation of a recurrent layer is within its loop, not at its end.
    if not hasattr(operation, "activation") or isinstance(operation, keras.layers.RNN):
        return "unknown"
    return _name_of(operation.activation, shape)


def _name_of(activation: Any, shape: Shape) -> str:
    for name in ("linear", *ACTIVATIONS):
        if keras.activations.get(activation) is getattr(keras.activations, name):
            return name
    # Softmax has many names (`tf.nn.softmax_v2`, a lambda, a layer) and other functions have its
    # name, so what is not Keras's own is tried out. No two axes are alike, and none is large.
    sizes = [*range(2, len(shape) + 1), shape[-1] or len(shape) + 1]
    # Both signs within any two: a relu would pass for a linear end otherwise.
    index = np.arange(math.prod(sizes), dtype="float32")
    logits = ((-1) ** index * (0.3 + (1.7 * index) % 8)).reshape(sizes)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    log_sigmoid = -np.logaddexp(0, -logits)
    try:
        with keras.StatelessScope():
            result = activation(keras.ops.convert_to_tensor(logits))
        result = keras.ops.convert_to_numpy(result)
    except Exception:  # It is the user's code: whatever it raises, it is not known.
        return "unknown"
    tried = {
        "linear": logits,
        "softmax": np.exp(log_p),
        "log_softmax": log_p,
        "sigmoid": np.exp(log_sigmoid),
        "log_sigmoid": log_sigmoid,
    }
    return next(
        (
            name
            for name, expected in tried.items()
            if result.shape == expected.shape and np.allclose(result, expected, atol=1e-5)
        ),
        "unknown",
    )
