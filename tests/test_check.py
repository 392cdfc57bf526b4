"""The doctor finds each planted fault and is silent on healthy pairs."""

import time

import keras
import numpy as np
import pytest
from backends import on_one_backend
from keras import layers, ops

import keras_ats
from keras_ats import check, losses

FEATURES, CLASSES, SAMPLES = 6, 4, 120
CENTRES = np.random.default_rng(5).normal(0, 3, (CLASSES, FEATURES))


def data(classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, SAMPLES)
    x = CENTRES[y] + rng.normal(0, 1, (SAMPLES, FEATURES))
    return x.astype("float32"), y


def head(scale=0.6, classes=CLASSES, offset=0.0, factor=1.0):
    """Weights of a linear classifier that knows the centres: no training needed.

    Args:
        scale: Of the logits.
        classes: How many.
        offset: Taken from inputs first, and
        factor: what they are divided by.
    """
    centres = CENTRES[:classes]
    kernel = centres.T * scale
    bias = -0.5 * (centres**2).sum(-1) * scale
    return kernel / factor, bias - (offset / factor) * kernel.sum(0)


def linear(weights, *endings, name="teacher"):
    model = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(len(weights[1])), *endings], name=name
    )
    model.layers[0].set_weights(weights)
    return model


def student(classes=CLASSES, activation=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(classes, activation)], name="student"
    )


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Code(keras.Model):
    """A model whose ending nobody can see."""

    def __init__(self, activation):
        super().__init__()
        self.dense = layers.Dense(CLASSES, activation)
        self.dense.build((None, FEATURES))
        self.dense.set_weights(head())
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Training(layers.Layer):
    """BatchNormalization that is always in training."""

    def __init__(self):
        super().__init__()
        self.normalization = layers.BatchNormalization()

    def build(self, shape):
        self.normalization.build(shape)

    def call(self, inputs):
        return self.normalization(inputs, training=True)

    def compute_output_shape(self, shape):
        return shape


class Deaf(losses.KDLoss):
    """Reads the teacher alone."""

    def call(self, lesson):
        return ops.sum(ops.square(lesson.teacher.logits), axis=-1)


class Loud(losses.KDLoss):
    """A mean square without a scale."""

    def call(self, lesson):
        return 1000.0 * ops.sum(ops.square(lesson.student.logits - lesson.teacher.logits), axis=-1)


def swapped():
    kernel, bias = head()
    return linear((kernel[:, [1, 2, 3, 0]], bias[[1, 2, 3, 0]]))


def untrained():
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(1)
    return linear((rng.normal(size=(FEATURES, CLASSES)) * 0.01, np.array([9.0, 0, 0, 0])))


def training():
    model = keras.Sequential([keras.Input((FEATURES,)), Training(), layers.Dense(CLASSES)])
    model.layers[-1].set_weights(head())
    return model


X, Y = data()
SELF = linear(head())
TWO_X, TWO_Y = data(2)

# What is planted: the finding, and the arguments of `check`.
FAULTS = {
    "two softmaxes": (
        "teacher's probabilities taken for logits",
        lambda: (linear(head(), layers.Softmax(), layers.Softmax()), student(), X, Y),
    ),
    "said to be logits": (
        "teacher's probabilities taken for logits",
        lambda: (Code("softmax"), student(), X, Y, None, {"teacher_from_logits": True}),
    ),
    "said to be probabilities": (
        "teacher's logits taken for probabilities",
        lambda: (Code(None), student(), X, Y, None, {"teacher_from_logits": False}),
    ),
    "student's two softmaxes": (
        "student's probabilities taken for logits",
        lambda: (
            linear(head()),
            linear(head(0.1), layers.Softmax(), layers.Softmax(), name="student"),
            X,
            Y,
        ),
    ),
    "log-probabilities": (
        "teacher returns log-probabilities",
        lambda: (Code("log_softmax"), student(), X, Y, None, {"teacher_from_logits": True}),
    ),
    "class order": ("classes in another order", lambda: (swapped(), student(), X, Y)),
    "normalisation": (
        "inputs not as the teacher expects them",
        lambda: (linear(head(factor=255.0)), student(), X, Y),
    ),
    "inverted labels": (
        "labels the other way round",
        lambda: (linear(head(classes=2)), student(2), TWO_X, 1 - TWO_Y),
    ),
    "inverted labels of a sigmoid": (
        "labels the other way round",
        lambda: (sigmoid(), student(1, "sigmoid"), TWO_X, 1 - TWO_Y),
    ),
    "constant": (
        "distillation loss is constant",
        lambda: (linear(head()), student(), X, Y, Deaf()),
    ),
    "near uniform": (
        "soft targets all but uniform",
        lambda: (linear(head()), student(), X, Y, losses.TemperatureKD(500.0)),
    ),
    "near one-hot": (
        "soft targets all but one-hot",
        lambda: (linear(head(60.0)), student(), X, Y, losses.TemperatureKD(1.0)),
    ),
    "untrained": ("teacher knows nothing here", lambda: (untrained(), student(), X, Y)),
    "loud teacher": (
        "teacher drowns the labels",
        lambda: (linear(head()), student(), X, Y, Loud()),
    ),
    "loud labels": (
        "labels drown the teacher",
        lambda: (linear(head()), student(), X, Y, None, {"kd_weight": 1e-3}),
    ),
    "training mode": ("teacher in training mode", lambda: (training(), student(), X, Y)),
    "better student": (
        "student better than its teacher",
        lambda: (worse(), linear(head(), name="student"), X, Y),
    ),
    "NaN": (
        "teacher is not finite",
        lambda: (linear((head()[0] * np.nan, head()[1])), student(), X, Y),
    ),
    "one class": ("one class only", lambda: (linear(head()), student(), X[Y == 1], Y[Y == 1])),
    "labels from 1": ("labels out of range", lambda: (linear(head()), student(), X, Y + 1)),
    "labels that are NaN": (
        "cannot be read",
        lambda: (linear(head()), student(), X, np.where(Y == 1, np.nan, Y)),
    ),
    "its own teacher": ("cannot be read", lambda: (SELF, SELF, X, Y)),
    "other classes": ("cannot be read", lambda: (linear(head()), student(3), X, Y)),
    "unseen ending": ("cannot be read", lambda: (Code(None), student(), X, Y)),
}


def sigmoid():
    kernel, bias = head(classes=2)
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(1, "sigmoid")])
    model.layers[0].set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    return model


def worse():
    """Knows two of the classes."""
    kernel, bias = head()
    return linear((kernel, bias - np.array([0.0, 0.0, 1e6, 1e6])))


def hidden(scale=1.0):
    """The same knowledge behind layers that behave otherwise in training."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.BatchNormalization(epsilon=1e-7),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, "softmax"),
        ]
    )
    model.layers[-1].set_weights(head(scale))
    return model


def tokens():
    model = keras.Sequential([keras.Input((10, FEATURES)), layers.Dense(CLASSES, "softmax")])
    model.layers[0].set_weights(head())
    return model


HEALTHY = {
    "linear": lambda: (linear(head()), student(), X, Y),
    "layers and softmax": lambda: (hidden(), student(activation="softmax"), X, np.eye(CLASSES)[Y]),
    "trained student": lambda: (linear(head()), linear(head(0.3), name="student"), X, Y),
    "sigmoid": lambda: (sigmoid(), student(1, "sigmoid"), TWO_X, TWO_Y),
    "code": lambda: (
        Code("softmax"),
        student(),
        X,
        Y,
        losses.TemperatureKD(4.0),
        {"teacher_from_logits": False},
    ),
    "tokens": lambda: (
        tokens(),
        tokens(),
        X.reshape(12, 10, -1),
        Y.reshape(12, 10),
        losses.DecoupledKD(),
    ),
    "void pixels": lambda: (
        tokens(),
        tokens(),
        X.reshape(12, 10, -1),
        np.where(np.arange(120) < 9, 255, Y).reshape(12, 10),
    ),
    "its own inputs": lambda: (
        linear(head(factor=255.0)),
        student(),
        X,
        Y,
        None,
        {"teacher_inputs": lambda x: 255.0 * x},
    ),
}


def findings(make):
    teacher, other, x, y, *rest = make()
    kd_loss, options = (*rest, None, {})[:2] if len(rest) < 2 else rest
    options = options or {}
    start = time.perf_counter()
    result = check(teacher, other, x, y, kd_loss, verbose=False, **options)
    assert time.perf_counter() - start < 60  # Seconds on a machine of its own.
    return result


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    name, make = FAULTS[fault]
    result = findings(make)
    assert name in [one.name for one in result.findings], str(result)
    assert not result
    for one in result.findings:
        assert all(one)
        assert one.seen in str(result)


@pytest.mark.parametrize("pair", HEALTHY)
def test_nothing_is_found_in_a_healthy_pair(pair):
    result = findings(HEALTHY[pair])
    assert result, str(result)
    assert "Nothing found" in str(result)


@on_one_backend("rich is")
def test_findings_are_printed(capsys, monkeypatch):
    check(untrained(), student(), X, Y)
    assert "1. teacher knows nothing here" in capsys.readouterr().out
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check(untrained(), student(), X, Y)
    assert "1. teacher knows nothing here\n  seen: The teacher is right" in capsys.readouterr().out


@on_one_backend("which samples are looked at")
def test_all_classes_of_a_sorted_set_are_looked_at():
    order = np.argsort(np.tile(Y, 20))
    x, y = np.tile(X, (20, 1))[order], np.tile(Y, 20)[order]
    assert len(set(y[:1024])) < CLASSES
    kernel, bias = head()
    last_two_swapped = [0, 1, 3, 2]
    teacher = linear((kernel[:, last_two_swapped], bias[last_two_swapped]))
    assert check(linear(head()), student(), x, y, verbose=False)
    assert not check(teacher, student(), x, y, verbose=False)


@on_one_backend("nothing is run")
def test_nothing_is_changed():
    teacher, other = hidden(), student()
    before = [keras.ops.convert_to_numpy(one) for m in (teacher, other) for one in m.variables]
    check(teacher, other, X, Y, verbose=False)
    after = [keras.ops.convert_to_numpy(one) for m in (teacher, other) for one in m.variables]
    for one, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, now)


@on_one_backend("nothing is run")
def test_what_cannot_be_checked_is_said():
    with pytest.raises(TypeError, match="`x` must be an array"):
        check(linear(head()), student(), "x", Y)
    with pytest.raises(ValueError, match="as many samples"):
        check(linear(head()), student(), X, Y[:-1])
    for kd_loss in (keras_ats.losses.DistillationLoss(), [losses.TemperatureKD()]):
        with pytest.raises(TypeError, match="`kd_loss` must be one loss on logits"):
            check(linear(head()), student(), X, Y, kd_loss)
