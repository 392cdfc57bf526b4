"""Distillation of sigmoid heads, against NumPy in float64 and against softmax over two classes."""

import keras
import numpy as np
import pytest
from backends import cases_in_turn
from gradients import value_and_gradient
from keras import layers

from keras_ats import Distiller, losses
from keras_ats.adjustments import Standardize

pytestmark = cases_in_turn(
    "each case is a value against a reference, whose arithmetic the backends share"
)

SAMPLES, CLASSES, FEATURES = 6, 4, 3


def batch(rng, classes=CLASSES):
    """Student's logits, teacher's logits and rows of zeros and ones."""
    student, teacher = rng.normal(0, 3, (2, SAMPLES, classes)).astype("float32")
    return student, teacher, rng.integers(2, size=(SAMPLES, classes))


def expected(student, teacher, labels, correct, wrong, student_temperature):
    """Value and gradient in the student's logits, of the mean over samples."""
    student, teacher = student.astype("float64"), teacher.astype("float64")
    p = 1 / (1 + np.exp(-teacher / (labels * correct + (1 - labels) * wrong)))
    q = 1 / (1 + np.exp(-student / student_temperature))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return (
        student_temperature**2 * divergence.sum(axis=-1).mean(),
        student_temperature * (q - p) / len(student),
    )


@pytest.mark.parametrize("temperatures", [(4.0, 2.0, 1.0), (2.0, 2.0, 2.0), (1.0, 3.0, 4.0)])
@pytest.mark.parametrize("classes", [1, CLASSES])
def test_equals_the_formula(rng, classes, temperatures):
    student, teacher, labels = batch(rng, classes)
    correct, wrong, student_temperature = temperatures
    loss = losses.BernoulliKD(correct, wrong, student_temperature=student_temperature)
    value, gradient = value_and_gradient(lambda z: loss(z, teacher, labels=labels), student)
    expected_value, expected_gradient = expected(student, teacher, labels, *temperatures)
    assert value == pytest.approx(expected_value, rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_labels_between_zero_and_one_count_in_part(rng):
    student, teacher, _ = batch(rng)
    labels = rng.random((SAMPLES, CLASSES)).astype("float32")
    value = losses.BernoulliKD(4.0, 2.0)(student, teacher, labels=labels)
    assert float(value) == pytest.approx(
        expected(student, teacher, labels, 4.0, 2.0, 1.0)[0], rel=1e-5
    )


def test_at_equal_temperatures_each_class_is_plain_kd_of_yes_and_no(rng):
    student, teacher, labels = batch(rng)
    per_class = losses.TemperatureKD(3.0, reduction="none")(
        np.stack([student, np.zeros_like(student)], axis=-1),
        np.stack([teacher, np.zeros_like(teacher)], axis=-1),
    )
    loss = losses.BernoulliKD(3.0, 3.0, student_temperature=3.0, reduction="none")
    np.testing.assert_allclose(
        loss(student, teacher, labels=labels),
        np.asarray(per_class).sum(axis=-1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_labels_of_a_single_unit_need_no_class_axis(rng):
    student, teacher, labels = batch(rng, classes=1)
    loss = losses.BernoulliKD(reduction="none")
    np.testing.assert_array_equal(
        loss(student, teacher, labels=labels[:, 0]), loss(student, teacher, labels=labels)
    )


def test_a_student_who_agrees_has_no_loss(rng):
    _, teacher, labels = batch(rng)
    loss = losses.BernoulliKD(2.0, 2.0, student_temperature=2.0)
    value, gradient = value_and_gradient(lambda z: loss(z, teacher, labels=labels), teacher)
    assert value == 0
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize("size", [80.0, 1e4])
@pytest.mark.parametrize("classes", [1, CLASSES])
def test_sure_answers_have_finite_values_and_gradients(rng, size, classes):
    student, teacher, labels = batch(rng, classes)
    student, teacher = size * np.sign(student), size * np.sign(teacher)
    loss = losses.BernoulliKD(1.0, 1.0)
    value, gradient = value_and_gradient(lambda z: loss(z, teacher, labels=labels), student)
    # Where they disagree the loss is the size itself, and the slope is 1.
    disagree = student != teacher
    assert value == pytest.approx(size * disagree.sum() / SAMPLES, rel=1e-5)
    np.testing.assert_allclose(
        gradient, np.where(disagree, np.sign(student), 0) / SAMPLES, atol=1e-6
    )


def test_class_ids_are_refused(rng):
    student, teacher, _ = batch(rng)
    with pytest.raises(ValueError, match="a label for each class, 1 if it applies"):
        losses.BernoulliKD()(student, teacher, labels=np.zeros(SAMPLES, "int32"))
    with pytest.raises(ValueError, match="a label for each class"):
        losses.BernoulliKD()(student, teacher, labels=np.zeros((SAMPLES, 1), "int32"))


def test_a_single_unit_is_refused_where_it_means_nothing(rng):
    student, teacher, labels = batch(rng, classes=1)
    for loss in (losses.TemperatureKD(), losses.LogitMSE(adjustment=Standardize())):
        with pytest.raises(ValueError, match=r"at least 2 classes"):
            loss(student, teacher, labels=labels)
    assert float(losses.LogitMSE()(student, student + 1.0)) == pytest.approx(1.0)


def test_present_temperatures_survive_saving(rng):
    loss = losses.BernoulliKD(reduction="sum", name="mine")
    *logits, labels = batch(rng)
    loss.wrong_temperature.assign(3.0)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert copy.get_config() == loss.get_config()
    np.testing.assert_array_equal(*(one(*logits, labels=labels) for one in (copy, loss)))


@pytest.mark.parametrize("label_shape", [(SAMPLES,), (SAMPLES, 1), (SAMPLES, CLASSES)])
def test_trains_a_student_with_sigmoid_units(rng, label_shape):
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = rng.integers(2, size=label_shape).astype("float32")
    units = CLASSES if label_shape[1:] == (CLASSES,) else 1
    teacher, student = (
        keras.Sequential([keras.Input((FEATURES,)), layers.Dense(units)]) for _ in range(2)
    )
    distiller = Distiller(teacher, student)
    distiller.compile(
        "sgd",
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        kd_loss=losses.BernoulliKD(4.0, 2.0),
    )
    rows = y.reshape(SAMPLES, units)
    logits = [keras.ops.convert_to_numpy(model(x)) for model in (student, teacher)]
    kd_loss = expected(*logits, rows, 4.0, 2.0, 1.0)[0]
    logs = distiller.fit(x, y, batch_size=SAMPLES, verbose=0).history
    assert logs["kd_loss"][0] == pytest.approx(kd_loss, rel=1e-4)


class TestLabelsOutsideZeroAndOne:
    @pytest.mark.parametrize("unknown", [-1, 255])
    def test_unknown_ones_are_left_out(self, rng, unknown):
        student, teacher, labels = batch(rng)
        labels[0, 1] = labels[3, 2] = labels[4, :] = unknown
        known = labels != unknown
        expected_value = sum(
            expected(*(side[None, i, known[i]] for side in (student, teacher, labels)), 4, 2, 1)[0]
            for i in range(SAMPLES)
        )
        loss = losses.BernoulliKD(4.0, 2.0, unknown_label=unknown)
        value, gradient = value_and_gradient(lambda z: loss(z, teacher, labels=labels), student)
        assert value == pytest.approx(expected_value / SAMPLES, rel=1e-5)
        _, slopes = expected(student, teacher, np.where(known, labels, 0), 4.0, 2.0, 1.0)
        np.testing.assert_allclose(gradient, np.where(known, slopes, 0), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(gradient[~known], 0)

    def test_unknown_ones_of_a_single_unit(self, rng):
        student, teacher, labels = batch(rng, classes=1)
        labels[2] = -1
        known = labels[:, 0] >= 0
        loss = losses.BernoulliKD(unknown_label=-1, reduction="sum")
        left = losses.BernoulliKD(reduction="sum")(
            student[known], teacher[known], labels=labels[known]
        )
        for given in (labels, labels[:, 0]):
            np.testing.assert_allclose(loss(student, teacher, labels=given), left, rtol=1e-6)
        # Left out by position, the others are averaged among themselves.
        np.testing.assert_allclose(
            losses.BernoulliKD(ignore_label=-1)(student, teacher, labels=labels),
            left / known.sum(),
            rtol=1e-6,
        )

    @pytest.mark.parametrize("wrong", [-1, 2, 255])
    @pytest.mark.parametrize("classes", [1, CLASSES])
    @pytest.mark.parametrize("unknown", [None, -7])
    def test_others_make_the_loss_nan(self, rng, classes, wrong, unknown):
        student, teacher, labels = batch(rng, classes)
        labels[1, 0] = wrong
        loss = losses.BernoulliKD(unknown_label=unknown)
        value, gradient = value_and_gradient(lambda z: loss(z, teacher, labels=labels), student)
        assert np.isnan(value)
        assert np.all(np.isfinite(gradient))
        weights = np.where(np.arange(SAMPLES) == 1, 0.0, 1.0)
        assert np.isfinite(
            float(losses.BernoulliKD()(student, teacher, labels=labels, sample_weight=weights))
        )

    def test_labels_of_minus_one_and_one(self, rng):
        """A temperature of exactly zero, were it not for the check."""
        student, teacher, labels = batch(rng)
        loss = losses.BernoulliKD(4.0, 4.0)
        value, gradient = value_and_gradient(
            lambda z: loss(z, teacher, labels=2 * labels - 1), student
        )
        assert np.isnan(value)
        assert np.all(np.isfinite(gradient))


class TestASingleUnitIsTwoClasses:
    """ATS is not invariant to a shift, so which two classes decides."""

    def value_and_slope(self, loss, student, teacher, labels, form):
        return value_and_gradient(
            lambda z: loss(two_classes(z, form), two_classes(teacher, form), labels=labels[:, 0]),
            student,
        )

    def test_of_logits_zero_and_z(self, rng):
        student, teacher, labels = batch(rng, classes=1)
        ats = losses.AsymmetricTemperatureKD(4.0, 2.0)
        value, gradient = self.value_and_slope(ats, student, teacher, labels, "zero and z")
        single = losses.BernoulliKD(4.0, 2.0)
        expected_value, expected_gradient = value_and_gradient(
            lambda z: single(z, teacher, labels=labels), student
        )
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
        # A cross-entropy, which is larger than the divergence by the targets' entropy.
        p = 1 / (1 + np.exp(-teacher.astype("float64") / np.where(labels == 1, 4.0, 2.0)))
        entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
        assert value - entropy == pytest.approx(expected_value, rel=1e-4)

    def test_halves_of_either_sign_have_one_temperature(self, rng):
        student, teacher, labels = batch(rng, classes=1)
        ats = losses.AsymmetricTemperatureKD(4.0, 2.0)
        _, gradient = self.value_and_slope(ats, student, teacher, labels, "halves")
        harmonic = 2 * 4.0 * 2.0 / (4.0 + 2.0)
        plain = losses.BernoulliKD(harmonic, harmonic)
        _, expected_gradient = value_and_gradient(
            lambda z: plain(z, teacher, labels=labels), student
        )
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
        _, of_single = value_and_gradient(
            lambda z: losses.BernoulliKD(4.0, 2.0)(z, teacher, labels=labels), student
        )
        assert np.max(np.abs(of_single - gradient)) > 1e-3

    @pytest.mark.parametrize("form", ["zero and z", "halves"])
    def test_at_one_temperature_all_forms_agree(self, rng, form):
        student, teacher, labels = batch(rng, classes=1)
        value, gradient = self.value_and_slope(
            losses.TemperatureKD(3.0), student, teacher, labels, form
        )
        single = losses.BernoulliKD(3.0, 3.0, student_temperature=3.0)
        expected_value, expected_gradient = value_and_gradient(
            lambda z: single(z, teacher, labels=labels), student
        )
        assert value == pytest.approx(expected_value, rel=1e-4)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def two_classes(logit, form):
    """No and yes, as a softmax over two classes would have them."""
    logit = keras.ops.convert_to_tensor(logit)
    pair = (0 * logit, logit) if form == "zero and z" else (-logit / 2, logit / 2)
    return keras.ops.concatenate(pair, axis=-1)


def test_the_errors_name_the_right_loss(rng):
    student, teacher, labels = batch(rng, classes=1)
    for loss in (losses.AsymmetricTemperatureKD(), losses.DecoupledKD(), losses.HardLabelKD()):
        with pytest.raises(ValueError, match="BernoulliKD, which is made for sigmoid units"):
            loss(student, teacher, labels=labels)
    student, teacher, _ = batch(rng)
    with pytest.raises(ValueError, match=r"class ids into rows with keras\.ops\.one_hot"):
        losses.BernoulliKD()(student, teacher, labels=np.zeros(SAMPLES, "int32"))
