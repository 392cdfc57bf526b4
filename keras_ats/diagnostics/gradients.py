"""Gradients outside a training step, on whichever backend is active."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ats.types import Tensor


def gradient(function: Callable[[Tensor], Tensor], values: np.ndarray) -> np.ndarray:
    """Returns the gradient of a scalar function at `values`; zeros where it does not depend on it.

    Args:
        function: Of a float32 tensor.
        values: Where the gradient is taken.
    """
    given: Any = keras.ops.convert_to_tensor(values.astype("float32"))
    found: Any
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(given)
            value = function(given)
        found = tape.gradient(value, given)
    elif keras.backend.backend() == "jax":
        import jax

        found = jax.jit(jax.grad(function))(given)
    else:
        import torch

        given = given.detach().clone().requires_grad_()
        value = function(given)
        found = None
        if value.requires_grad:
            (found,) = torch.autograd.grad(value, given, allow_unused=True)
            found = None if found is None else found.detach()
    if found is None:
        return np.zeros(values.shape)
    return np.asarray(keras.ops.convert_to_numpy(found)).astype("float64")
