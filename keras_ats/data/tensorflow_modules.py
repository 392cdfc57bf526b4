"""TensorFlow and TFDS, imported only when a data set is loaded or a pipeline is built."""

import contextlib
from typing import Any

import keras


def import_tensorflow() -> Any:
    """Returns the module `tensorflow`, kept off the GPUs if another backend computes."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(_missing("TensorFlow")) from error
    if keras.backend.backend() != "tensorflow":
        # TensorFlow would take most of each GPU's memory from JAX or PyTorch. It is too late for
        # that, and an error, where the user's own code has started its devices.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf


def import_tensorflow_datasets() -> Any:
    """Returns the module `tensorflow_datasets`."""
    import_tensorflow()
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(_missing("TensorFlow Datasets")) from error
    return tensorflow_datasets


def _missing(package: str) -> str:
    return f"keras_ats.data needs {package}: pip install 'keras-ats[datasets]'."
