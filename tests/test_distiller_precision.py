"""Point 7: mixed precision, also with teacher and student of different precisions."""

import functools

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

pytestmark = cases_in_turn("a policy is the same pair of casts for every loss")

HALF = ("mixed_float16", "mixed_bfloat16")


def _close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def _restored_policy():
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


def _built(build, policy, weights=None, **arguments):
    """A model as it comes out when the global policy is set, as users do."""
    keras.config.set_dtype_policy(policy)
    model = build(**arguments)
    keras.config.set_dtype_policy("float32")
    if weights is not None:
        model.set_weights(weights)
    return model


def _logits(model, x):
    return keras.ops.convert_to_numpy(keras.ops.cast(model(x), "float32")).astype("float64")


def _expected_losses(student_logits, teacher_logits, y, correct=4.0, wrong=2.0):
    """Cross-entropy and ATS in float64."""
    rows = np.eye(student_logits.shape[-1])[y]
    log_q = student_logits - student_logits.max(-1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(-1, keepdims=True))
    softened = teacher_logits / np.where(rows == 1, correct, wrong)
    targets = np.exp(softened - softened.max(-1, keepdims=True))
    targets /= targets.sum(-1, keepdims=True)
    return -(rows * log_q).sum(-1).mean(), -(targets * log_q).sum(-1).mean()


@functools.cache
def _history(teacher_policy, student_policy, softmax):
    """Logs and final weights of a run from the same start."""
    keras.utils.set_random_seed(0)
    x, y = models.features(np.random.default_rng(0), samples=32)
    teacher_weights = models.sequential(16).get_weights()
    student_weights = models.sequential(8).get_weights()
    teacher = _built(models.sequential, teacher_policy, teacher_weights, width=16)
    student = _built(models.sequential, student_policy, student_weights, width=8, softmax=softmax)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.5), kd_loss=AsymmetricTemperatureKD(), metrics=["accuracy"]
    )
    scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (student_policy == "mixed_float16")
    logs = distiller.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
    assert all(weight.dtype == "float32" for weight in student.weights)
    return logs, student.get_weights()


@pytest.mark.parametrize(
    ("teacher_policy", "student_policy", "softmax"),
    [
        ("mixed_float16", "mixed_float16", False),
        ("mixed_float16", "mixed_float16", True),
        ("mixed_bfloat16", "mixed_bfloat16", False),
        ("mixed_bfloat16", "mixed_bfloat16", True),
        ("float32", "mixed_bfloat16", False),
        ("mixed_bfloat16", "float32", False),
        ("float32", "mixed_float16", False),
        ("mixed_float16", "mixed_bfloat16", False),
    ],
)
def test_every_pair_trains_as_in_float32(teacher_policy, student_policy, softmax):
    logs, weights = _history(teacher_policy, student_policy, softmax)
    expected, expected_weights = _history("float32", "float32", softmax)
    assert np.all(np.isfinite(list(logs.values())))
    assert logs["loss"][-1] < logs["loss"][0]
    for name in ("loss", "student_loss", "kd_loss"):
        _close(logs[name], expected[name], 0.02)
    for weight, expected_weight in zip(weights, expected_weights, strict=True):
        _close(weight, expected_weight, 0.03)


def test_loss_scaling_is_for_the_gradient_alone(rng):
    """The logs show the loss itself; the step is that of the loss itself."""
    x, y = models.features(rng)
    teacher = models.sequential(16)
    student = _built(models.linear, "mixed_float16")
    distiller = keras_ats.Distiller(teacher, student)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=1024.0)
    distiller.compile(optimizer, kd_loss=AsymmetricTemperatureKD())
    assert distiller.optimizer is optimizer, "an optimizer that scales already is left alone"
    kernel, bias = student.get_weights()
    logits, teacher_logits = _logits(student, x), _logits(teacher, x)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    student_loss, kd_loss = _expected_losses(logits, teacher_logits, y)
    _close(logs["student_loss"], student_loss, 1e-3)
    _close(logs["kd_loss"], kd_loss, 1e-3)
    _close(logs["loss"], (student_loss + kd_loss) / 2, 1e-3)

    rows = np.eye(models.CLASSES)[y]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    softened = np.exp(teacher_logits / np.where(rows == 1, 4, 2))
    targets = softened / softened.sum(-1, keepdims=True)
    gradient = (probabilities - (rows + targets) / 2) / len(x)
    _close(student.get_weights()[0], kernel - x.T @ gradient, 2e-3)
    _close(student.get_weights()[1], bias - gradient.sum(0), 2e-3)


def test_a_small_gradient_survives_float16(rng):
    """Below 6e-8 float16 is zero: without loss scaling nothing would be learnt here."""
    x, y = models.features(rng)
    student = _built(models.sequential, "mixed_float16")
    distiller = keras_ats.Distiller(models.sequential(), student)
    distiller.compile(keras.optimizers.SGD(1e7), kd_loss=AsymmetricTemperatureKD())
    before = student.get_weights()
    distiller.fit(x, y, sample_weight=np.full(len(x), 1e-8, "float32"), verbose=0)
    for weight, weight_before in zip(student.get_weights(), before, strict=True):
        assert np.all(np.isfinite(weight))
        assert np.abs(weight - weight_before).max() > 1e-4


@pytest.mark.parametrize("policy", HALF)
def test_losses_are_float32_inside(policy, rng):
    """From the student's half-precision logits on, nothing more is rounded."""
    x, y = models.features(rng)
    teacher, student = models.sequential(16), _built(models.sequential, policy)
    distiller = keras_ats.Distiller(teacher, student)
    # Eagerly, like `_logits`: compiled, half precision is rounded elsewhere.
    distiller.compile(kd_loss=AsymmetricTemperatureKD(), evaluate_teacher=True, run_eagerly=True)
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    student_loss, kd_loss = _expected_losses(_logits(student, x), _logits(teacher, x), y)
    _close(logs["student_loss"], student_loss, 2e-5)
    _close(logs["kd_loss"], kd_loss, 2e-5)


@pytest.mark.parametrize("policy", HALF)
def test_a_float32_teacher_sees_float32_inputs(policy, rng):
    """Inputs near 256 differ below what bfloat16 resolves; the teacher must tell them apart."""
    x, y = models.features(rng)
    x = (256 + 0.5 * x).astype("float32")
    inputs = keras.Input((models.FEATURES,))
    hidden = layers.Rescaling(4.0, offset=-1024.0)(inputs)
    teacher = keras.Model(inputs, layers.Dense(models.CLASSES)(hidden))
    student = _built(models.linear, policy)
    distiller = keras_ats.Distiller(teacher, student)
    # Eagerly, like `_logits`: compiled, half precision is rounded elsewhere.
    distiller.compile(kd_loss=AsymmetricTemperatureKD(), evaluate_teacher=True, run_eagerly=True)
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    _, kd_loss = _expected_losses(_logits(student, x), _logits(teacher, x), y)
    _close(logs["kd_loss"], kd_loss, 1e-4)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("policy", HALF)
def test_class_ids_above_256(policy, dtype, rng):
    """bfloat16 has no 257."""
    classes = 300
    y = np.array([255, 256, 257, 258, 259, 299])
    x = np.eye(len(y), dtype="float32")

    def build():
        return keras.Sequential([keras.Input((len(y),)), layers.Dense(classes)])

    teacher, student = _built(build, policy), _built(build, policy)
    for model in (teacher, student):
        kernel = 3 * rng.normal(size=(len(y), classes))
        # A teacher sure of the label: which class gets the higher temperature is seen in the loss.
        kernel[np.arange(len(y)), y] += 20 if model is teacher else 0
        model.set_weights([kernel, np.zeros(classes)])
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(10.0),
        kd_loss=AsymmetricTemperatureKD(),
        metrics=["accuracy"],
        evaluate_teacher=True,
        run_eagerly=True,
    )
    logs = distiller.evaluate(x, y.astype(dtype), verbose=0, return_dict=True)
    student_loss, kd_loss = _expected_losses(_logits(student, x), _logits(teacher, x), y)
    _close(logs["student_loss"], student_loss, 2e-5)
    _close(logs["kd_loss"], kd_loss, 2e-5)
    distiller.fit(x, y.astype(dtype), epochs=10, verbose=0)
    np.testing.assert_array_equal(_logits(student, x).argmax(-1), y)
