"""Distiller, point 2: what `compile` decides by itself, and what an ordinary script says."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn

from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD

pytestmark = cases_in_turn("endings and labels are read before a backend sees a tensor")


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def logits_of(student, x, softmax):
    outputs = models.outputs(student, x)
    return np.log(outputs) if softmax else outputs


def test_a_kd_loss_is_enough(rng):
    x, y = models.features(rng, 64)
    y = np.argmax(x[:, : models.CLASSES], axis=-1)
    teacher = models.sequential(16)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    distiller = Distiller(teacher, models.sequential(4))
    distiller.compile(kd_loss=AsymmetricTemperatureKD(4, 2))
    assert isinstance(distiller.optimizer, keras.optimizers.Adam)
    assert float(distiller.kd_weight.numpy()) == 0.5
    assert float(distiller.student_weight) == 0.5
    history = distiller.fit(x, y, epochs=8, batch_size=8, verbose=0).history
    assert set(history) == {"loss", "student_loss", "kd_loss"}
    assert history["student_loss"][-1] < history["student_loss"][0] - 0.05
    assert distiller.predict(x, verbose=0).shape == (64, models.CLASSES)


def test_the_defaults_of_ats_are_four_and_two(rng):
    x, y = models.features(rng)
    teacher, student = models.sequential(16), models.linear()
    distiller = Distiller(teacher, student)
    distiller.compile(kd_loss=AsymmetricTemperatureKD(), evaluate_teacher=True)
    logs = distiller.test_on_batch(x, y, return_dict=True)
    rows = models.one_hot(y)
    expected = models.ats(rows, models.outputs(student, x), models.outputs(teacher, x), 4, 2)
    close(logs["kd_loss"], expected.mean())


@pytest.mark.parametrize("softmax", [False, True])
def test_every_form_of_labels_gives_the_same_first_loss(rng, softmax):
    x, y = models.features(rng)
    teacher, student = models.sequential(16), models.sequential(softmax=softmax)
    rows, logits = models.one_hot(y), logits_of(student, x, softmax)
    expected = (
        models.cross_entropy(rows, logits).mean(),
        models.ats(rows, logits, models.outputs(teacher, x)).mean(),
    )
    forms = [y, y[:, None], y.astype("int64"), y.astype("float32"), rows.astype("float32"), rows]
    forms.append(rows.astype("int32"))
    for labels in forms:
        distiller = Distiller(teacher, student)
        distiller.compile(
            kd_loss=AsymmetricTemperatureKD(4, 2), evaluate_teacher=True, run_eagerly=True
        )
        logs = distiller.test_on_batch(x, labels, return_dict=True)
        close((logs["student_loss"], logs["kd_loss"]), expected)
        close(logs["loss"], np.mean(expected))


@pytest.mark.parametrize("softmax", [False, True])
def test_soft_labels(rng, softmax):
    x, _ = models.features(rng)
    rows = rng.dirichlet(np.ones(models.CLASSES), len(x)).astype("float32")
    teacher, student = models.sequential(16), models.sequential(softmax=softmax)
    logits = logits_of(student, x, softmax)
    distiller = Distiller(teacher, student)
    distiller.compile(kd_loss=AsymmetricTemperatureKD(4, 2))
    logs = distiller.train_on_batch(x, rows, return_dict=True)
    close(logs["student_loss"], models.cross_entropy(rows, logits).mean())
    close(logs["kd_loss"], models.ats(rows, logits, models.outputs(teacher, x)).mean())


@pytest.mark.parametrize(
    ("build", "labels"), [(models.tokens, "one-hot"), (models.dense_conv, "ids")]
)
def test_one_prediction_per_token_or_pixel(rng, build, labels):
    x, y = models.sentences(rng) if build is models.tokens else models.images(rng)
    valid = x != 0 if build is models.tokens else np.ones(y.shape, bool)
    teacher, student = build(8), build()
    rows, logits = models.one_hot(y), models.outputs(student, x)
    distiller = Distiller(teacher, student)
    distiller.compile(kd_loss=AsymmetricTemperatureKD(4, 2), evaluate_teacher=True)
    logs = distiller.test_on_batch(x, y if labels == "ids" else rows, return_dict=True)
    close(logs["student_loss"], models.cross_entropy(rows, logits)[valid].mean())
    expected = models.ats(rows, logits, models.outputs(teacher, x))[valid].mean()
    close(logs["kd_loss"], expected)


@pytest.mark.parametrize("labels", ["ids", "one-hot"])
def test_an_ordinary_script_keeps_its_strings(rng, labels):
    """Softmax-ended student, string loss, string metrics: exactly what plain Keras reports."""
    x, y = models.features(rng, 20)
    loss = "sparse_categorical_crossentropy"
    metrics = ["accuracy", "sparse_categorical_crossentropy"]
    if labels == "one-hot":
        y, loss = models.one_hot(y).astype("float32"), "categorical_crossentropy"
        metrics = ["accuracy", "mse", keras.metrics.AUC(name="auc")]
    student = models.sequential(softmax=True)
    student.compile("sgd", loss, metrics=metrics)
    plain = student.evaluate(x, y, batch_size=10, return_dict=True, verbose=0)
    distiller = Distiller(models.sequential(16, softmax=True), student)
    distiller.compile(
        keras.optimizers.SGD(0.0), loss, kd_loss=AsymmetricTemperatureKD(4, 2), metrics=metrics
    )
    history = distiller.fit(x, y, batch_size=10, validation_split=0.5, verbose=0).history
    evaluated = distiller.evaluate(x, y, batch_size=10, return_dict=True, verbose=0)
    assert set(history) == {*evaluated, *(f"val_{name}" for name in evaluated), "kd_loss"}
    assert evaluated.pop("student_loss") == pytest.approx(plain["loss"], rel=1e-5)
    assert evaluated == pytest.approx(plain, rel=1e-5)
    student_half = (history["student_loss"][0] + history["val_student_loss"][0]) / 2
    assert student_half == pytest.approx(plain["loss"], rel=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_metrics_see_what_the_student_returns(rng, softmax):
    x, y = models.features(rng)
    student = models.functional(softmax=softmax)
    seen = models.outputs(student, x)

    def mean_of_squares(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_pred), axis=-1)

    distiller = Distiller(models.sequential(16), student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        kd_loss=TemperatureKD(4),
        metrics=[mean_of_squares],
        weighted_metrics=[keras.metrics.MeanMetricWrapper(mean_of_squares, "weighted")],
    )
    weights = rng.uniform(0, 3, len(x)).astype("float32")
    expected = np.square(seen).mean(axis=-1)
    trained = distiller.train_on_batch(x, y, weights, return_dict=True)
    evaluated = distiller.test_on_batch(x, y, weights, return_dict=True)
    for logs in (trained, evaluated):
        close(logs["mean_of_squares"], expected.mean())
        close(logs["weighted"], np.average(expected, weights=weights))
    close(distiller.predict(x, verbose=0), seen)


def test_auto_is_what_one_writes_for_logits(rng):
    x, y = models.features(rng)
    student = models.sequential()
    losses = []
    for loss in ("auto", keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
        distiller = Distiller(models.sequential(16), student)
        distiller.compile(loss=loss, kd_loss=TemperatureKD(4))
        losses.append(distiller.test_on_batch(x, y, return_dict=True)["student_loss"])
    close(losses, losses[0])


def test_auto_is_exact_where_a_softmax_saturates(rng):
    # From probabilities Keras clips at 1e-7, so no loss there exceeds 16.1.
    x, y = models.features(rng, 4)
    student = models.linear(softmax=True)
    kernel, _ = student.get_weights()
    student.set_weights([np.zeros_like(kernel), np.array([60.0, 0.0, -60.0])])
    distiller = Distiller(models.sequential(), student)
    distiller.compile(kd_loss=TemperatureKD(4))
    loss = distiller.test_on_batch(x, np.full_like(y, 2), return_dict=True)["student_loss"]
    close(loss, 120.0)


def test_a_given_loss_and_its_weight_are_kept(rng):
    x, y = models.features(rng)
    student = models.sequential(softmax=True)
    rows = models.one_hot(y).astype("float32")
    student.compile(loss=keras.losses.CategoricalFocalCrossentropy(), loss_weights=3.0)
    plain = student.evaluate(x, rows, verbose=0)
    distiller = Distiller(models.sequential(16), student)
    distiller.compile(
        loss=keras.losses.CategoricalFocalCrossentropy(),
        loss_weights=3.0,
        kd_loss=AsymmetricTemperatureKD(4, 2),
        student_weight=1.0,
    )
    logs = distiller.train_on_batch(x, rows, return_dict=True)
    close(logs["student_loss"], plain)
    close(logs["loss"], plain + 0.5 * logs["kd_loss"])
