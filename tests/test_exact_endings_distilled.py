"""Endings that are an exact reading away from logits, and quantised ones, in steps of a fit."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from keras import layers, ops
from keras.src.dtype_policies.dtype_policy import QUANTIZATION_MODES

import keras_ats
from keras_ats import losses

IMAGE = (4, 4, 2)


def build(end):
    """Three feature maps in training, and what an ending makes of them."""
    inputs = keras.Input(IMAGE)
    return keras.Model(inputs, end(layers.Conv2D(3, 1)(inputs)))


def softmax(x):
    return layers.Softmax()(x)


# What ends a model after logits, and after their softmax.
LOGITS = {
    "reshape": lambda x: layers.Reshape((16, 3))(x),
    "flatten": lambda x: layers.Flatten()(layers.GlobalAveragePooling2D(keepdims=True)(x)),
    "cropping": lambda x: layers.Cropping2D(1)(x),
    "pooling": lambda x: layers.GlobalAveragePooling2D()(x),
    "add": lambda x: layers.Add()([x, layers.Conv2D(3, 1)(x)]),
    "concatenate": lambda x: layers.Concatenate(axis=1)([x, layers.Conv2D(3, 1)(x)]),
    "cast": lambda x: ops.cast(x, "float16"),
    "upsampling": lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x),
}
SOFTMAX = {
    "reshape": lambda x: layers.Reshape((16, 3))(softmax(x)),
    "permute": lambda x: layers.Permute((2, 1, 3))(softmax(x)),
    "cast": lambda x: ops.cast(softmax(x), "float16"),
    "cropping": lambda x: layers.Cropping2D(1)(softmax(x)),
}
CASES = {
    **{f"logits-{name}": (end, False) for name, end in LOGITS.items()},
    **{f"softmax-{name}": (end, True) for name, end in SOFTMAX.items()},
}


def logits_of(model, x, is_softmax):
    """Logits, known up to a constant after a softmax, which no divergence sees."""
    said = ops.convert_to_numpy(model(x)).astype("float64")
    return np.log(said) if is_softmax else said


def check_a_step(teacher, student, x, z, f, tolerance, run_eagerly=True):
    """The first step of a fit reports what student and teacher said before it, and trains."""
    y = np.random.default_rng(0).integers(z.shape[-1], size=z.shape[:-1])
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=losses.TemperatureKD(2.0), run_eagerly=run_eagerly)
    before = models.numpy_weights(student)
    logs = distiller.fit(x, y, batch_size=len(x), verbose=0).history
    assert logs["kd_loss"][0] == pytest.approx(models.kd(z, f, 2.0).mean(), rel=tolerance)
    expected = models.cross_entropy(models.one_hot(y), z).mean()
    assert logs["student_loss"][0] == pytest.approx(expected, rel=tolerance)
    after = models.numpy_weights(student)
    assert any(np.any(one != other) for one, other in zip(before, after, strict=True))


@cases_in_turn("what is read off a graph is the same graph on each of them")
@pytest.mark.parametrize("case", CASES)
def test_exact_endings(case, rng):
    end, is_softmax = CASES[case]
    x = rng.normal(size=(4, *IMAGE)).astype("float32")
    teacher, student = build(end), build(end)
    z, f = (logits_of(model, x, is_softmax) for model in (student, teacher))
    check_a_step(teacher, student, x, z, f, 0.02 if "cast" in case else 1e-4)


@cases_in_turn("the kernels are Keras's, and the ending is read off the graph")
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_quantised_teacher(mode, rng):
    if mode not in QUANTIZATION_MODES:
        pytest.skip(f"Keras {keras.__version__} has no {mode}")
    x, _ = models.features(rng)
    teacher, student = models.sequential(softmax=True), models.sequential(softmax=True)
    exact = logits_of(teacher, x, is_softmax=True)
    teacher.quantize(mode)
    z, f = (logits_of(model, x, is_softmax=True) for model in (student, teacher))
    assert np.abs(f - exact).max() > 1e-6
    check_a_step(teacher, student, x, z, f, 1e-3)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_a_student_that_trains_in_float8(rng):
    x, _ = models.features(rng)
    teacher, student = models.sequential(softmax=True), models.sequential(softmax=True)
    student.quantize("float8")
    z, f = (logits_of(model, x, is_softmax=True) for model in (student, teacher))
    # Keras's own step in float8 fails on TensorFlow where it is run eagerly.
    check_a_step(teacher, student, x, z, f, 0.05, keras.backend.backend() != "tensorflow")


@on_one_backend("only types are looked at")
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_of_keras_2_is_named(role):
    class Sequential:
        __module__ = "tf_keras.src.engine.sequential"

    given = {"teacher": models.linear(), "student": models.linear(), role: Sequential()}
    with pytest.raises(TypeError, match=rf"`{role}`.*model of Keras 2.*load it with keras"):
        keras_ats.Distiller(**given)
