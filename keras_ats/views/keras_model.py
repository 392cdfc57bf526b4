"""What is a model of Keras 3, and what only looks like one."""

from typing import Any

import keras

# Where other libraries define their models, and how one comes from there to Keras 3.
_FOREIGN = {
    "tf_keras": "Keras 2, which runs beside Keras 3 and not within it. Save it with tf_keras as an "
    ".h5 file, then load it with keras: keras.saving.load_model",
    "tensorflow.python.keras": "the Keras within TensorFlow. Save it as an .h5 file, then load it "
    "with keras: keras.saving.load_model",
    "torch": "PyTorch. Call it in a keras.Model of yours, through "
    "keras.layers.TorchModuleWrapper, on the torch backend",
    "transformers": "transformers. Call it in a keras.Model of yours, or load its Keras 3 form "
    "from keras_hub",
}


def as_keras_model(value: Any, name: str, expected: str) -> keras.Model:
    """Returns `value`, or raises if it is no model of Keras 3.

    Args:
        value: What was given as a model.
        name: Name of the argument, for the message.
        expected: What should have been written, for the message.

    Raises:
        TypeError: If it is something else, with the way to a Keras model where there is one.
    """
    if isinstance(value, keras.Model):
        return value
    raise TypeError(
        f"{name} must be a keras.Model. Received: {value!r} of type {type(value).__name__}."
        f"{origin_of(value)} Expected: {expected}."
    )


def origin_of(value: Any) -> str:
    """A sentence on where a model of another library comes from; empty for anything else."""
    modules = [base.__module__ for base in type(value).__mro__]
    for package, advice in _FOREIGN.items():
        if any(module == package or module.startswith(f"{package}.") for module in modules):
            return f" This is a model of {advice}."
    return ""
