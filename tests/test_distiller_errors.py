"""Point 10: what is wrong is said before the first batch: received, expected, remedy."""

import re

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD

pytestmark = cases_in_turn("what is refused is refused before a backend sees a tensor")

NAN, INFINITY = float("nan"), float("inf")


def _raises(error, *parts):
    """Expects `parts` in the message, in any order."""
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{part})" for part in parts))


def _pair(**arguments):
    return keras_ats.Distiller(models.sequential(8), models.sequential(4), **arguments)


class _Batches(keras.callbacks.Callback):
    """Counts the batches that were begun."""

    def __init__(self):
        super().__init__()
        self.begun = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.begun += 1


def _assert_fit_fails_early(distiller, raises, x, y, in_first_step=False):
    """No step is made, and nothing has changed."""
    before, counter = models.numpy_weights(distiller.student), _Batches()
    with raises:
        distiller.fit(x, y, batch_size=4, verbose=0, callbacks=[counter])
    assert counter.begun <= in_first_step
    if in_first_step and keras.backend.backend() == "jax":
        return  # An error within a step: Keras has taken the weights away, a plain model's too.
    np.testing.assert_equal(models.numpy_weights(distiller.student), before)
    assert int(keras.ops.convert_to_numpy(distiller.optimizer.iterations)) == 0


# ---------------------------------------------------------------- Distiller(teacher, student)


@pytest.mark.parametrize(
    "thing", [None, "teacher.keras", layers.Dense(3), models.sequential], ids=repr
)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_not_a_model(role, thing):
    pair = {"teacher": models.sequential(), "student": models.sequential(), role: thing}
    with _raises(
        TypeError,
        rf"`{role}` must be a keras\.Model",
        re.escape(f"Received: {thing!r} of type {type(thing).__name__}"),
        r"Distiller\(teacher, student\)",
    ):
        keras_ats.Distiller(**pair)


def test_teacher_is_student():
    model = models.sequential(name="only_one")
    with _raises(ValueError, "same model", "Received: 'only_one' twice", "clone_model"):
        keras_ats.Distiller(model, model)


@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential([layers.Dense(3)], name="large"),
        lambda: models.Subclassed(name="large"),
    ],
    ids=["sequential", "subclassed"],
)
def test_teacher_not_built(build):
    with _raises(ValueError, "teacher 'large' is not built", "Load its trained weights"):
        keras_ats.Distiller(build(), models.sequential(), teacher_from_logits=True)


@pytest.mark.parametrize("softmax", [False, True])
def test_class_counts_differ(softmax):
    student = keras.Sequential([keras.Input((5,)), layers.Dense(4, "softmax" if softmax else None)])
    with _raises(
        ValueError,
        "must have the same classes",
        "Received: a student with 4 classes and a teacher with 3",
        "Rebuild the student's last layer",
    ):
        keras_ats.Distiller(models.sequential(), student)


def test_class_counts_of_subclassed_models_differ(rng):
    """Their shapes are known with the first batch only, but before the first step."""
    x, y = models.features(rng)
    teacher = models.subclassed()
    student = keras.Sequential([keras.Input((models.FEATURES,)), layers.Dense(4)])
    distiller = keras_ats.Distiller(teacher, student, teacher_from_logits=True)
    distiller.compile("sgd", kd_loss=TemperatureKD())
    raises = _raises(
        ValueError,
        "same shape",
        r"student \((4|None), 4\), teacher \((4|None), 3\)",
        "give both models the same classes",
    )
    _assert_fit_fails_early(distiller, raises, x, y, in_first_step=True)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_wrong_ending(role):
    bad = keras.Sequential([keras.Input((5,)), layers.Dense(3, "relu", name="head")], name="wrong")
    pair = {"teacher": models.sequential(), "student": models.sequential(), role: bad}
    with _raises(
        ValueError,
        f"The {role} 'wrong' ends in Dense 'head' with activation 'relu'",
        r"Expected: a linear layer \(logits\), a softmax over the last axis, or a sigmoid",
        f"{role}_from_logits=True",
        f"{role}_from_logits=False",
    ):
        keras_ats.Distiller(**pair)


# ---------------------------------------------------------------- compile


def test_no_kd_loss():
    distiller = _pair()
    with _raises(
        ValueError,
        "needs a distillation loss",
        "Received: kd_loss=None",
        r"kd_loss=keras_ats\.losses\.AsymmetricTemperatureKD\(4, 2\)",
    ):
        distiller.compile()


@pytest.mark.parametrize(
    "thing", [keras.losses.KLDivergence(), AsymmetricTemperatureKD, 4.0], ids=str
)
def test_not_a_kd_loss(thing):
    with _raises(TypeError, "distillation loss", "Received: .*" + re.escape(repr(thing))):
        _pair().compile(kd_loss=thing)


def test_unknown_name_of_a_kd_loss():
    with _raises(ValueError, "'kullback'", "Expected one of", "asymmetric_temperature_kd"):
        _pair().compile(kd_loss="kullback")


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN, INFINITY, -INFINITY])
def test_kd_weight_out_of_range(value):
    with _raises(
        ValueError,
        r"`kd_weight` must be within \[0, 1\]",
        re.escape(f"Received: kd_weight={value!r}"),
    ):
        _pair().compile(kd_loss=TemperatureKD(), kd_weight=value)


@pytest.mark.parametrize("value", ["0.5", None, True], ids=repr)
def test_kd_weight_not_a_number(value):
    with _raises(TypeError, "`kd_weight`", "such as 0.5", re.escape(f"kd_weight={value!r}")):
        _pair().compile(kd_loss=TemperatureKD(), kd_weight=value)


@pytest.mark.parametrize("value", [-1.0, NAN, INFINITY])
def test_student_weight_out_of_range(value):
    with _raises(ValueError, "`student_weight`", "at least 0", f"student_weight={value!r}"):
        _pair().compile(kd_loss=TemperatureKD(), student_weight=value)


TEMPERATURES = {
    "temperature": lambda value: TemperatureKD(value),
    "correct_temperature": lambda value: AsymmetricTemperatureKD(value, 2),
    "wrong_temperature": lambda value: AsymmetricTemperatureKD(4, value),
    "student_temperature": lambda value: AsymmetricTemperatureKD(4, 2, student_temperature=value),
}


@pytest.mark.parametrize("value", [0, 0.0, -1, -2.5, NAN, INFINITY])
@pytest.mark.parametrize("name", TEMPERATURES)
def test_temperature_not_above_zero(name, value):
    with _raises(
        ValueError,
        f"`{name}` must be a finite number above 0",
        f"Received: {name}={value!r}",
        "1.0",
    ):
        TEMPERATURES[name](value)


@pytest.mark.parametrize("value", ["4", None, True, [4.0]], ids=repr)
@pytest.mark.parametrize("name", ["correct_temperature", "wrong_temperature"])
def test_temperature_not_a_number(name, value):
    with _raises(
        TypeError, f"`{name}` must be a number above 0", re.escape(f"Received: {name}={value!r}")
    ):
        TEMPERATURES[name](value)


# ---------------------------------------------------------------- fit


@pytest.fixture
def compiled():
    distiller = _pair()
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD())
    return distiller


@pytest.mark.parametrize(
    ("change", "lowest", "highest"),
    [(lambda y: y + 1, 0, 3), (lambda y: y - 1, -1, 1), (lambda y: y * 100, 0, 200)],
    ids=["from_one", "negative", "far"],
)
@pytest.mark.parametrize("form", ["ids", "column", "float"])
def test_labels_out_of_range(compiled, change, lowest, highest, form, rng):
    x, y = models.features(rng)
    y[:3] = 0, 1, 2
    y = change(y)
    y = {"ids": y, "column": y[:, None], "float": y.astype("float32")}[form]
    shown = (f"{edge}(\\.0)?" for edge in (lowest, highest))
    raises = _raises(
        ValueError,
        "class ids from 0 to 2",
        "3 classes",
        "Received: labels from {} to {}".format(*shown),
        "labels - 1",
    )
    _assert_fit_fails_early(compiled, raises, x, y)


def test_labels_out_of_range_for_a_single_batch(compiled, rng):
    x, y = models.features(rng)
    before = models.numpy_weights(compiled.student)
    with _raises(ValueError, "class ids from 0 to 2", "Received: labels from 0 to 103"):
        compiled.train_on_batch(x, np.where(np.arange(len(y)) == 3, 103, 0))
    np.testing.assert_equal(models.numpy_weights(compiled.student), before)


@pytest.mark.parametrize("loss", ["auto", "sparse_categorical_crossentropy"])
def test_labels_out_of_range_of_dense_predictions(loss, rng):
    x, y = models.images(rng)
    y[3, 2, 1] = 255  # As segmentation marks what is not to count.
    distiller = keras_ats.Distiller(models.dense_conv(), models.dense_conv(softmax=True))
    distiller.compile("sgd", loss, kd_loss=AsymmetricTemperatureKD())
    before = distiller.student.get_weights()
    with _raises(ValueError, "Received: labels from 0 to 255", "sample weight of 0 or a mask"):
        distiller.fit(x, y, verbose=0)
    np.testing.assert_equal(distiller.student.get_weights(), before)


def test_an_ignored_class_is_in_range(rng):
    x, y = models.images(rng)
    y[:, 2, 1] = 255
    distiller = keras_ats.Distiller(models.dense_conv(), models.dense_conv())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    distiller.compile("sgd", loss, kd_loss=AsymmetricTemperatureKD())
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("kd_loss", [AsymmetricTemperatureKD(), TemperatureKD()], ids=["ats", "kd"])
def test_no_labels(kd_loss, rng):
    x, _ = models.features(rng)
    distiller = _pair()
    distiller.compile("sgd", kd_loss=kd_loss)
    raises = _raises(ValueError, "no labels", "Received: y=None", "loss=None", "TemperatureKD")
    # TensorFlow finds it while it traces the first step, the others before.
    traced = keras.backend.backend() == "tensorflow"
    _assert_fit_fails_early(distiller, raises, x, None, in_first_step=traced)


def test_no_labels_for_a_kd_loss_that_needs_them(rng):
    x, _ = models.features(rng)
    distiller = _pair()
    distiller.compile("sgd", loss=None, kd_loss=AsymmetricTemperatureKD())
    raises = _raises(
        ValueError, "AsymmetricTemperatureKD needs labels", "labels=None", "TemperatureKD"
    )
    _assert_fit_fails_early(distiller, raises, x, None, in_first_step=True)


@pytest.mark.parametrize("shape", [(16, 2), (16, 5), (16, 1, 3), (16, 3, 1), (16, 2, 2)], ids=str)
def test_shape_of_the_labels_does_not_fit(compiled, shape, rng):
    x, _ = models.features(rng)
    raises = _raises(
        ValueError,
        re.escape(f"Labels of shape {shape} do not fit"),
        r"logits of shape \(None, 3\)",
        r"Expected class ids of shape \(None,\) or \(None, 1\), or one-hot .* \(None, 3\)",
    )
    _assert_fit_fails_early(compiled, raises, x, np.zeros(shape, "int32"))


@pytest.mark.parametrize("shape", [(8, 4), (8, 3), (8, 16), (8, 4, 4, 2), (8, 1)], ids=str)
def test_shape_of_dense_labels_does_not_fit(shape, rng):
    x, _ = models.images(rng)
    distiller = keras_ats.Distiller(models.dense_conv(), models.dense_conv())
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD())
    before = distiller.student.get_weights()
    with _raises(ValueError, re.escape(f"Labels of shape {shape} do not fit"), "Expected"):
        distiller.fit(x, np.zeros(shape, "int32"), verbose=0)
    np.testing.assert_equal(distiller.student.get_weights(), before)


def test_shape_of_labels_from_a_pipeline(compiled, rng):
    """It is not in memory, so that the first batch tells; the first step is not made."""
    x, _ = models.features(rng)
    y = np.zeros((len(x), 2), "int32")
    raises = _raises(ValueError, r"Labels of shape \((4|None), 2\) do not fit", "Expected")
    before = models.numpy_weights(compiled.student)
    with raises:
        compiled.fit(models.batches(x, y, size=4), verbose=0)
    np.testing.assert_equal(models.numpy_weights(compiled.student), before)


def test_one_can_go_on_after_an_error(compiled, rng):
    x, y = models.features(rng)
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        compiled.fit(x, y + 1, verbose=0)
    assert np.isfinite(compiled.fit(x, y, verbose=0).history["loss"]).all()


def test_fit_before_compile(rng):
    x, y = models.features(rng)
    with _raises(ValueError, "compile"):
        _pair().fit(x, y, verbose=0)
