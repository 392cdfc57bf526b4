"""Tiny models and data that the tests of `Distiller` share."""

import keras
import numpy as np
from keras import layers

FEATURES = 5
CLASSES = 3
TOKENS = 6
VOCABULARY = 11
IMAGE = (4, 4, 2)


def features(rng, samples=16):
    """Inputs `(samples, FEATURES)` and class ids `(samples,)`."""
    x = rng.normal(size=(samples, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, samples).astype("int32")


def images(rng, samples=8):
    """Inputs `(samples, *IMAGE)` and one class id per pixel."""
    x = rng.normal(size=(samples, *IMAGE)).astype("float32")
    return x, rng.integers(0, CLASSES, (samples, *IMAGE[:2])).astype("int32")


def sentences(rng, samples=6, padding=0):
    """Token ids `(samples, TOKENS + padding)`, ids of classes to match; 0 is padding."""
    x = rng.integers(1, VOCABULARY, (samples, TOKENS)).astype("int32")
    y = rng.integers(0, CLASSES, (samples, TOKENS)).astype("int32")
    lengths = rng.integers(1, TOKENS + 1, samples)
    x[np.arange(TOKENS) >= lengths[:, None]] = 0
    return np.pad(x, ((0, 0), (0, padding))), np.pad(y, ((0, 0), (0, padding)))


def linear(softmax=False, name=None, **dense):
    """One Dense layer in a Sequential model."""
    activation = "softmax" if softmax else None
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(CLASSES, activation, **dense)], name=name
    )


def sequential(width=8, softmax=False, name=None):
    """A hidden layer in a Sequential model."""
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(width, "tanh"),
            layers.Dense(CLASSES, "softmax" if softmax else None),
        ],
        name=name,
    )


def functional(width=8, softmax=False, name=None):
    """The same hidden layer in a Functional model."""
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(width, "tanh")(inputs)
    return keras.Model(
        inputs, layers.Dense(CLASSES, "softmax" if softmax else None)(hidden), name=name
    )


def two_outputs():
    """Outputs `kind` of three classes and `size` of two."""
    inputs = keras.Input((FEATURES,))
    heads = [keras.layers.Dense(3, name="kind"), keras.layers.Dense(2, name="size")]
    return keras.Model(inputs, [head(inputs) for head in heads])


def stochastic(softmax=False, dropout=0.5, name=None):
    """BatchNormalization and Dropout, which behave differently in training."""
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dropout(dropout),
            layers.Dense(CLASSES, "softmax" if softmax else None),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Restless(layers.Layer):
    """Trains its BatchNormalization, drops units and adds a loss at inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.normalization = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.5)

    def build(self, input_shape):
        self.normalization.build(input_shape)

    def call(self, inputs):
        hidden = self.normalization(inputs, training=True)
        self.add_loss(keras.ops.mean(keras.ops.square(hidden)))
        return self.dropout(hidden, training=True)

    def compute_output_shape(self, input_shape):
        return input_shape


def restless(name=None):
    """A model that will not be told that it is not being trained."""
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(8), Restless(), layers.Dense(CLASSES)], name=name
    )


def tokens(width=4, softmax=False, name=None):
    """One prediction per token; padding is masked."""
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(VOCABULARY, width, mask_zero=True),
            layers.Dense(CLASSES, "softmax" if softmax else None),
        ],
        name=name,
    )


def dense_conv(width=4, softmax=False, name=None):
    """One prediction per pixel."""
    return keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.Conv2D(CLASSES, 1, activation="softmax" if softmax else None),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Subclassed(keras.Model):
    """A model whose graph Keras cannot see."""

    def __init__(self, width=8, softmax=False, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.softmax = softmax
        self.hidden = layers.Dense(width, "tanh")
        self.head = layers.Dense(CLASSES, "softmax" if softmax else None)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((*input_shape[:-1], self.width))

    def call(self, inputs):
        return self.head(self.hidden(inputs))

    def get_config(self):
        return {"width": self.width, "softmax": self.softmax, "name": self.name}


def subclassed(width=8, softmax=False, name=None):
    """`Subclassed`, built."""
    model = Subclassed(width, softmax, name=name)
    model.build((None, FEATURES))
    return model


def batches(*arrays, size):
    """A `fit` input of any backend whose last batch may be smaller."""
    return _Batches(arrays, size)


class _Batches(keras.utils.PyDataset):
    def __init__(self, arrays, size):
        super().__init__()
        self.arrays = arrays
        self.size = size

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)  # Keras 3.10 has no `__iter__`: this ends a `for` loop.
        part = slice(index * self.size, (index + 1) * self.size)
        return tuple(array[part] for array in self.arrays)


def outputs(model, x):
    """What the model predicts, without the seconds that compiling `predict` takes."""
    return keras.ops.convert_to_numpy(model(x, training=False))


def numpy_weights(model):
    """Every variable of a model, seeds included, as NumPy."""
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def one_hot(ids, classes=CLASSES):
    return np.eye(classes)[ids]


def log_softmax(logits, temperature=1.0):
    scaled = np.asarray(logits, "float64") / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def cross_entropy(rows, logits):
    """Cross-entropy of each position, float64."""
    return -(rows * log_softmax(logits)).sum(axis=-1)


def ats(rows, student, teacher, correct=4.0, wrong=2.0):
    """`AsymmetricTemperatureKD` of each position, float64."""
    return cross_entropy(ats_targets(rows, teacher, correct, wrong), student)


def ats_targets(rows, teacher, correct=4.0, wrong=2.0):
    """What ATS teaches: the teacher's logits over a temperature of each class."""
    return np.exp(log_softmax(teacher, rows * correct + (1 - rows) * wrong))


def kd(student, teacher, temperature=4.0):
    """`TemperatureKD` of each position, float64."""
    target, logs = log_softmax(teacher, temperature), log_softmax(student, temperature)
    return temperature**2 * (np.exp(target) * (target - logs)).sum(axis=-1)


def binary_cross_entropy(labels, logits):
    """Binary cross-entropy of each sigmoid unit, float64."""
    return np.logaddexp(0, logits) - labels * logits


def bernoulli_kd(labels, student, teacher, correct=4.0, wrong=2.0):
    """`BernoulliKD` of each position, float64."""
    softened = teacher / np.where(labels == 1, correct, wrong)
    p = np.exp(-np.logaddexp(0, -softened))
    yes = p * (np.logaddexp(0, -student) - np.logaddexp(0, -softened))
    no = (1 - p) * (np.logaddexp(0, student) - np.logaddexp(0, softened))
    return (yes + no).sum(axis=-1)


def dense_logits(model, x, layer=-1):
    """Logits of a model that is one Dense layer, or of one of several heads, float64."""
    head = model.get_layer(layer) if isinstance(layer, str) else model.layers[layer]
    kernel, bias = (weight.astype("float64") for weight in head.get_weights())
    return x.astype("float64") @ kernel + bias
