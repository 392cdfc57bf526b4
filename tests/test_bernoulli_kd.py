"""Distillation of sigmoid heads, against NumPy in float64 and against softmax over two classes."""

import keras
import numpy as np
import pytest
from gradients import value_and_gradient
from keras import layers

from keras_ats import Distiller, losses
from keras_ats.adjustments import Standardize

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
        with pytest.raises(ValueError, match="at least 2 classes"):
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
