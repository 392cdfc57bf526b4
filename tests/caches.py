"""Tiny samples, teachers and students that the tests of caches share."""

import keras
import numpy as np
from keras import layers

import keras_ats

CLASSES = 4
IMAGE = (8, 8, 3)


def samples(count=24, seed=0, **options):
    """Random images whose ids are neither dense nor in order."""
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 256, (count, *IMAGE), np.uint8)
    ids = rng.permutation(10 * count)[:count]
    labels = np.arange(count) % CLASSES
    return keras_ats.data.Samples.from_arrays(features, labels, ids=ids, **options)


def network(width=16, softmax=True, name=None):
    return keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Flatten(),
            layers.Dense(width, "tanh"),
            layers.Dense(CLASSES, "softmax" if softmax else None),
        ],
        name=name,
    )


def random_logits(rng, shape, scale=3.0):
    return rng.normal(0, scale, shape).astype("float32")


class Function:
    """A teacher that is no Keras model: a fixed linear map of flattened inputs, in NumPy."""

    def __init__(self, size, classes=CLASSES, seed=0):
        self.kernel = np.random.default_rng(seed).normal(size=(size, classes)).astype("float32")
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return np.asarray(x, "float32").reshape(len(x), -1) @ self.kernel


def joined(logs, ids):
    """Log-probabilities of the kept classes, and of all others together, float64."""
    rest = np.exp(logs)
    np.put_along_axis(rest, ids.astype(int), 0.0, axis=-1)
    return np.concatenate(
        [np.take_along_axis(logs, ids.astype(int), axis=-1), np.log(rest.sum(-1, keepdims=True))],
        -1,
    )
