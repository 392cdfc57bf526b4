"""Gradients on whichever backend is active."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def value_and_gradient(function: Callable[[Any], Any], x: Any) -> tuple[float, np.ndarray]:
    """Returns the scalar `function(x)` and its gradient in `x`, of the shape and dtype of `x`."""
    return _differentiated(_with_jax, function, x)


def compiled_value_and_gradient(function: Callable[[Any], Any], x: Any) -> tuple[float, np.ndarray]:
    """The same in less time where each `x` has a shape of its own.

    JAX compiles every operation for every shape that it meets; here it compiles one for all.
    """
    return _differentiated(_with_compiled_jax, function, x)


def _differentiated(with_jax, function, x):
    differentiate = {
        "tensorflow": _with_tensorflow,
        "jax": with_jax,
        "torch": _with_torch,
    }[keras.backend.backend()]
    value, gradient = differentiate(function, keras.ops.convert_to_tensor(x))
    return float(value), keras.ops.convert_to_numpy(gradient)


def _with_tensorflow(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value, tape.gradient(value, x)


def _with_jax(function, x):
    import jax

    return jax.value_and_grad(function)(x)


def _with_compiled_jax(function, x):
    import jax

    return jax.jit(jax.value_and_grad(function))(x)


def _with_torch(function, x):
    import torch

    x = x.detach().clone().requires_grad_()
    value = function(x)
    return value.detach(), torch.autograd.grad(value, x)[0]
