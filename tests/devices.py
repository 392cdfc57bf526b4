"""Two devices in one process, as conftest.py has made them."""

import contextlib

import keras


def two_devices() -> contextlib.AbstractContextManager:
    """What is compiled and fitted within it runs on two devices; TensorFlow and JAX only."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    devices = keras.distribution.list_devices("cpu")[:2]
    return keras.distribution.DataParallel(devices=devices).scope()
