"""Logits of minus infinity, as padded vocabularies, masked classes and float16 teachers give.

A class that neither model has is as if it were not there. Each loss is compared with itself on the
other classes, and the commonest with NumPy in float64, where the class was removed.
"""

from functools import partial

import keras
import numpy as np
import pytest
import reference
from backends import cases_in_turn
from gradients import value_and_gradient

import keras_ats
from keras_ats import losses, ops, temperatures
from keras_ats.adjustments import Smooth, Standardize, Swap

SAMPLES, CLASSES, ABSENT = 4, 6, 2
REST = [c for c in range(CLASSES) if c != ABSENT]
LOSSES = {
    "kd": partial(losses.TemperatureKD, 3.0),
    "kd-standardized": partial(losses.TemperatureKD, 2.0, adjustment=Standardize()),
    "kd-swapped": partial(losses.TemperatureKD, 3.0, adjustment=Swap()),
    "kd-smoothed": partial(losses.TemperatureKD, 3.0, adjustment=Smooth()),
    "cross-entropy": partial(losses.SoftTargetKD, 3.0, divergence="cross_entropy"),
    "reverse-kl": partial(losses.SoftTargetKD, 3.0, divergence="reverse_kl"),
    "jensen-shannon": partial(losses.JensenShannonKD, 2.0, teacher_weight=0.3),
    "ats": losses.AsymmetricTemperatureKD,
    "ats-per-sample": lambda **options: losses.SoftTargetKD(
        temperatures.Product(
            temperatures.Asymmetric(4.0, 2.0), temperatures.FocalWeighted(1.0, 0.3, minimum=0.5)
        ),
        student_temperature=1.0,
        **options,
    ),
    "flsw": losses.DynamicTemperatureKD,
    "cwsm": lambda **options: losses.DynamicTemperatureKD(
        temperatures.ConfidenceWeighted(4.0, bias=0.5), **options
    ),
    "ctkd": losses.CurriculumTemperatureKD,
    "ttm": losses.TransformedTeacherKD,
    "wttm": partial(losses.TransformedTeacherKD, weighted=True),
    "dkd": losses.DecoupledKD,
    "nkd": partial(losses.NormalizedKD, 3.0),
    "rld": losses.RefinedLogitKD,
    "dist": losses.DIST,
    # Its second part is divided by the number of classes, the absent one included.
    "relations-of-samples": partial(losses.RelationKD, class_weight=0.0),
    "relations-of-classes": partial(
        losses.RelationKD, batch_weight=0.0, class_weight=CLASSES / (CLASSES - 1)
    ),
    "logit-mse": losses.LogitMSE,
    "logit-mse-standardized": partial(losses.LogitMSE, adjustment=Standardize()),
    "label-smoothing": losses.LabelSmoothing,
    "label-smoothing-of-the-wrong": partial(losses.LabelSmoothing, spread="wrong"),
    "hard-label": losses.HardLabelKD,
}
# Where the student says that a class is possible which the teacher does not have, these are
# infinite by definition.
INFINITE = {"reverse-kl"}
# These compare numbers, not probabilities: a large one is no stand-in for minus infinity.
SEEING_NUMBERS = {
    "kd-standardized",
    "kd-smoothed",
    "ats-per-sample",
    "flsw",
    "logit-mse",
    "logit-mse-standardized",
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def batch(seed=0):
    """Student's and teacher's logits and labels; no label is the class that will be absent."""
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, (2, SAMPLES, CLASSES)).astype("float32")
    return student, teacher, np.array([0, 4, 1, 5])


def without(logits, value=-np.inf):
    logits = logits.copy()
    logits[:, ABSENT] = value
    return logits


def run(loss, student, teacher, labels):
    return value_and_gradient(lambda z: loss(z, teacher, labels=labels), student)


def without_class(name, student, teacher, labels):
    """What the loss gives for the other classes alone."""
    loss = LOSSES[name]()
    if name == "relations-of-classes":
        loss.class_weight.assign(1.0)
    return run(loss, student[:, REST], teacher[:, REST], np.searchsorted(REST, labels))


@cases_in_turn("all losses do this by the code of their base class")
@each_loss
def test_a_class_that_neither_has_is_as_if_removed(name):
    student, teacher, labels = batch()
    expected, slopes = without_class(name, student, teacher, labels)
    value, gradient = run(LOSSES[name](), without(student), without(teacher), labels)
    np.testing.assert_allclose(value, expected, rtol=2e-5)
    np.testing.assert_allclose(gradient[:, REST], slopes, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, ABSENT], 0)


def test_a_class_that_only_the_teacher_has_still_pulls_at_the_others():
    """The loss is infinite; where it slopes to is as ever."""
    student, teacher, labels = batch()
    _, gradient = run(losses.TemperatureKD(1.0), without(student), teacher, labels)
    p, q = (
        np.exp(z - np.logaddexp.reduce(z, axis=-1, keepdims=True))
        for z in (teacher.astype("float64"), without(student).astype("float64"))
    )
    np.testing.assert_allclose(gradient[:, REST], (q - p)[:, REST] / SAMPLES, atol=1e-6)


@pytest.mark.parametrize("name", ["kd", "dkd", "logit-mse-standardized"])
def test_the_lowest_number_is_as_good_as_minus_infinity(name):
    student, teacher, labels = batch()
    lowest = np.finfo("float32").min
    actual, expected = (
        run(LOSSES[name](), without(student, value), without(teacher, value), labels)
        for value in (lowest, -np.inf)
    )
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@each_loss
def test_a_class_may_be_absent_in_some_samples_only(name):
    student, teacher, labels = batch()
    for logits in (student, teacher):
        logits[1, ABSENT] = logits[2, 3] = -np.inf
    value, gradient = run(LOSSES[name](), student, teacher, labels)
    assert abs(value) < 1e4
    assert np.all(np.isfinite(gradient))
    assert gradient[1, ABSENT] == gradient[2, 3] == 0


@each_loss
def test_a_class_that_the_teacher_does_not_have(name):
    student, teacher, labels = batch()
    value, gradient = run(LOSSES[name](), student, without(teacher), labels)
    assert np.all(np.isfinite(gradient))
    if name in INFINITE:
        assert 1e20 < value < np.inf
        return
    # As good as minus infinity, but finite.
    if name not in SEEING_NUMBERS:
        expected, slopes = run(LOSSES[name](), student, without(teacher, -1e3), labels)
        np.testing.assert_allclose(value, expected, rtol=2e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-6)
    assert abs(value) < 1e4


@each_loss
def test_a_class_that_the_student_does_not_have(name):
    """What the teacher finds possible is infinitely far; no gradient leads there, none is NaN."""
    student, teacher, labels = batch()
    value, gradient = run(LOSSES[name](), without(student), teacher, labels)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[:, ABSENT], 0)


def test_the_value_of_kd_in_float64():
    student, teacher, labels = batch()
    kd, slopes = reference.kd(student[:, REST], teacher[:, REST], 3.0)
    value, gradient = run(losses.TemperatureKD(3.0), without(student), without(teacher), labels)
    np.testing.assert_allclose(value, kd.mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient[:, REST], slopes / SAMPLES, rtol=1e-4, atol=1e-6)
    ats, _ = reference.ats(
        student[:, REST], teacher[:, REST], np.searchsorted(REST, labels), 4.0, 2.0
    )
    loss = losses.AsymmetricTemperatureKD(4.0, 2.0)
    value, _ = run(loss, without(student), without(teacher), labels)
    np.testing.assert_allclose(value, ats.mean(), rtol=1e-5)


def test_only_the_teacher_lacks_a_class_in_float64():
    student, teacher, labels = batch()
    log_p = reference.log_softmax(teacher[:, REST], 3.0)
    log_q = reference.log_softmax(student, 3.0)
    expected = 9 * reference.kl(log_p, log_q[:, REST]).mean()
    slopes = reference.softmax(student, 3.0)
    slopes[:, REST] -= np.exp(log_p)
    value, gradient = run(losses.TemperatureKD(3.0), student, without(teacher), labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, 3 * slopes / SAMPLES, rtol=1e-4, atol=1e-6)


def test_a_float16_teacher_that_overflows():
    student, teacher, _ = batch()
    loss = losses.TemperatureKD(3.0)
    low = keras.ops.cast(keras.ops.convert_to_tensor(without(teacher, -1e9)), "float16")
    np.testing.assert_allclose(
        loss(without(student), low), loss(without(student), without(teacher)), rtol=1e-2
    )


def test_the_learned_temperature_gets_its_gradient():
    student, teacher, _ = batch()

    def of_temperature(absent):
        def value(raw):
            tau = 1.0 + 20.0 * keras.ops.sigmoid(raw)
            pick = slice(None) if absent else REST
            sides = [(without(z) if absent else z)[:, pick] for z in (teacher, student)]
            log_p, log_q = (ops.temperature_log_softmax(side, tau) for side in sides)
            return keras.ops.mean(ops.kl_divergence(log_p, log_q))

        return value_and_gradient(value, np.float32(1.0))

    np.testing.assert_allclose(of_temperature(True), of_temperature(False), rtol=1e-4)


def test_nan_stays_nan():
    student, teacher, _ = batch()
    teacher[0, 0] = np.nan
    assert np.isnan(float(losses.TemperatureKD()(student, teacher)))


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_sigmoid_units_that_are_sure(side):
    """Minus infinity is a sure no, plus infinity a sure yes."""
    student, teacher, _ = batch()
    labels = (teacher > 1).astype("float32")
    sure = np.where(np.arange(CLASSES) < 3, -np.inf, np.inf).astype("float32")
    if side != "teacher":
        student[1] = sure
    if side != "student":
        teacher[1] = sure
    value, gradient = run(losses.BernoulliKD(), student, teacher, labels)
    assert np.all(np.isfinite(gradient))
    if side == "student":
        assert 1e20 < value < np.inf
        return
    large_student, large_teacher = (np.clip(z, -1e4, 1e4) for z in (student, teacher))
    expected, slopes = run(losses.BernoulliKD(), large_student, large_teacher, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-6)


class TestOps:
    def test_log_of_zero_given_as_such(self):
        no = np.array([[0.0, -np.inf]])
        for divergence in (ops.cross_entropy, ops.kl_divergence, ops.reverse_kl_divergence):
            assert float(divergence(no, no)[0]) == 0
        assert float(ops.kl_divergence(no, np.log([[0.5, 0.5]]))[0]) == pytest.approx(np.log(2))
        assert float(ops.jensen_shannon_divergence(no, no[:, ::-1])[0]) == pytest.approx(np.log(2))

    def test_probabilities_of_the_rest(self):
        _, teacher, labels = batch()
        absent, rest_labels = without(teacher), np.searchsorted(REST, labels)
        for function in (ops.asymmetric_softmax, partial(_softmax_of, ops.wrong_class_log_softmax)):
            probabilities = np.asarray(function(absent, labels, 4.0, *_second(function)))
            expected = function(teacher[:, REST], rest_labels, 4.0, *_second(function))
            np.testing.assert_allclose(probabilities[:, REST], expected, rtol=1e-5, atol=1e-9)
            np.testing.assert_array_equal(probabilities[:, ABSENT], 0)

    def test_parts_of_the_cross_entropy(self):
        student, teacher, labels = batch()
        parts = ops.decompose_kd(
            reference.softmax(without(teacher)), reference.log_softmax(without(student)), labels
        )
        expected = reference.decomposition(
            reference.softmax(teacher[:, REST]),
            reference.log_softmax(student[:, REST]),
            np.searchsorted(REST, labels),
        )
        for part, value in zip(parts, expected, strict=True):
            np.testing.assert_allclose(part, value, rtol=1e-4, atol=1e-6)

    def test_inherent_variance_counts_an_absent_class_as_improbable(self):
        _, teacher, labels = batch()
        expected = reference.inherent_variance(without(teacher, -1e3), labels)
        np.testing.assert_allclose(ops.inherent_variance(without(teacher), labels), expected, 1e-4)

    def test_groups_of_classes_that_are_all_absent(self):
        logits = np.array([[1.0, -np.inf, -np.inf]], "float32")
        log_p = keras.ops.convert_to_numpy(ops.wrong_class_log_softmax(logits, [0]))
        np.testing.assert_array_equal(np.exp(log_p), 0)
        pair = keras.ops.convert_to_numpy(ops.correct_wrong_log_softmax(logits, [0]))
        np.testing.assert_array_equal(np.exp(pair), [[1, 0]])


def test_an_ensemble_of_teachers_with_absent_classes():
    _, teacher, _ = batch()
    model = keras.Sequential([keras.Input((CLASSES,)), keras.layers.Rescaling(1.0)])
    ensemble = keras_ats.teachers.Ensemble([model, model], from_logits=True)
    combined = keras.ops.convert_to_numpy(ensemble(without(teacher)))
    expected = teacher[:, REST] - teacher[:, REST].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(combined[:, REST], expected, rtol=1e-4, atol=1e-5)
    assert np.all(combined[:, ABSENT] < -1e20)


@pytest.mark.parametrize("form", ["ids", "rows"])
def test_label_crossentropy(form):
    student, _, ids = batch()
    labels = ids if form == "ids" else np.eye(CLASSES, dtype="float32")[ids]
    loss = losses.LabelCrossentropy()
    value, gradient = value_and_gradient(lambda z: loss(labels, z), without(student))
    expected, slopes = reference.label_crossentropy(np.searchsorted(REST, ids), student[:, REST])
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient[:, REST], slopes / SAMPLES, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, ABSENT], 0)


def _softmax_of(function, logits, labels, temperature):
    return np.exp(keras.ops.convert_to_numpy(function(logits, labels, temperature)))


def _second(function):
    """ATS has a temperature for the wrong classes too."""
    return (2.0,) if function is ops.asymmetric_softmax else ()
