"""Models of every ending through `Distiller`: what it trains, predicts and reports."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from view_cases import CLASSES, SOFTMAX, hidden_layer, numpy, series, state_of, vectors

import keras_ats

pytestmark = cases_in_turn("an ending is read the same whatever is computed of it")


@pytest.mark.parametrize("wrapper", ["dense", "time_distributed", "activation", "softmax"])
def test_activity_regularizer_counts_on_probabilities(wrapper, rng):
    heads = {
        "dense": [layers.Dense(CLASSES, "softmax", activity_regularizer="l2")],
        "time_distributed": [
            layers.TimeDistributed(layers.Dense(CLASSES, "softmax", activity_regularizer="l2"))
        ],
        "activation": [
            layers.Dense(CLASSES),
            layers.Activation("softmax", activity_regularizer="l2"),
        ],
        "softmax": [layers.Dense(CLASSES), layers.Softmax(activity_regularizer="l2")],
    }
    is_series = wrapper == "time_distributed"
    x = (series if is_series else vectors)(rng)
    student = keras.Sequential([keras.Input(x.shape[1:]), hidden_layer(), *heads[wrapper]])
    teacher = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(CLASSES)])
    y = rng.integers(0, CLASSES, x.shape[:-1])

    student.compile("sgd", "sparse_categorical_crossentropy")
    alone = student.evaluate(x, y, verbose=0)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.TemperatureKD(2.0))
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(alone, abs=1e-5)
    plain = keras.losses.sparse_categorical_crossentropy(y, student(x))
    assert logs["student_loss"] == pytest.approx(numpy(plain).mean(), abs=1e-5)
    assert (alone - logs["student_loss"] > 1e-4) or is_series, "the regulariser adds something"


@pytest.mark.parametrize(
    "name", ["sequential", "softmax_layer", "activation_layer", "two_levels", "nested_dict_inputs"]
)
def test_the_distilled_student_predicts_what_it_did(name, rng):
    case = SOFTMAX[name]
    teacher, student, x = case.build(), case.build(), case.inputs(rng)
    y = rng.integers(0, CLASSES, 6)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(),
        metrics=["accuracy"],
    )
    before, states = student.predict(x, verbose=0), (state_of(teacher), state_of(student))
    np.testing.assert_allclose(distiller.predict(x, verbose=0), before, atol=1e-6)
    distiller.fit(x, y, verbose=0)
    assert (state_of(teacher), state_of(student)) == states
    after = student.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), after, atol=1e-6)
    np.testing.assert_allclose(numpy(distiller(x)), after, atol=1e-6)


@pytest.mark.parametrize("loss", ["auto", "sparse_categorical_crossentropy"])
def test_the_users_loss_and_metrics_see_what_the_student_returns(loss, rng):
    x, y = models.features(rng)
    student = models.sequential(softmax=True)
    distiller = keras_ats.Distiller(models.sequential(softmax=True), student)
    distiller.compile(
        "sgd",
        loss,
        kd_loss=keras_ats.losses.TemperatureKD(),
        metrics=["accuracy", "sparse_categorical_crossentropy"],
    )
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    student.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    alone = student.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert logs["accuracy"] == pytest.approx(alone["accuracy"])
    assert logs["sparse_categorical_crossentropy"] == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_student_without_input_shape_is_built_by_fit(softmax, rng):
    x, y = models.features(rng)
    student = keras.Sequential(
        [layers.Dense(8, "tanh"), layers.Dense(CLASSES, "softmax" if softmax else None)]
    )
    distiller = keras_ats.Distiller(models.sequential(), student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    predictions = student.predict(x, verbose=0)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), predictions, atol=1e-6)
    if softmax:
        np.testing.assert_allclose(predictions.sum(-1), 1, atol=1e-5)


def test_a_student_without_input_shape_is_checked_when_built(rng):
    x, y = models.features(rng)
    student = keras.Sequential([layers.Dense(8), layers.Dense(CLASSES + 1)])
    distiller = keras_ats.Distiller(models.sequential(), student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    with pytest.raises(ValueError, match="4 classes and a teacher with 3"):
        distiller.fit(x, y, verbose=0)


@pytest.mark.parametrize("softmax", [False, True])
def test_subclassed_models_train(softmax, rng):
    x, y = models.features(rng)
    teacher, student = models.subclassed(16, softmax), models.subclassed(8, softmax)
    distiller = keras_ats.Distiller(
        teacher, student, teacher_from_logits=not softmax, student_from_logits=not softmax
    )
    predictions = student.predict(x, verbose=0)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), predictions, atol=1e-6)
    loss = "auto" if not softmax else "sparse_categorical_crossentropy"
    distiller.compile("sgd", loss, kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("units", [1, CLASSES])
def test_sigmoid_heads_are_distilled_at_their_logits(units, rng):
    x, y = vectors(rng), rng.integers(2, size=(6, units)).astype("float32")
    teacher, student = (
        keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(units, "sigmoid")])
        for _ in range(2)
    )
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        "sgd",
        "binary_crossentropy",
        kd_loss=keras_ats.losses.BernoulliKD(4.0, 2.0),
        metrics=["binary_accuracy"],
        evaluate_teacher=True,
        run_eagerly=True,
    )
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    weights = [[w.astype("float64") for w in model.get_weights()] for model in (teacher, student)]
    f, z = (x @ kernel + bias for kernel, bias in weights)
    log_p, log_not_p = (-np.logaddexp(0, -s * f / np.where(y == 1, 4.0, 2.0)) for s in (1, -1))
    log_q, log_not_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    divergence = np.exp(log_p) * (log_p - log_q) + np.exp(log_not_p) * (log_not_p - log_not_q)
    assert logs["kd_loss"] == pytest.approx(divergence.sum(-1).mean(), rel=1e-4)
    # The supervised loss and the metrics see probabilities, as ever.
    assert logs["student_loss"] == pytest.approx(
        -(y * log_q + (1 - y) * log_not_q).mean(), rel=1e-4
    )
    assert logs["binary_accuracy"] == pytest.approx(((z > 0) == y).mean())
    np.testing.assert_allclose(distiller.predict(x, verbose=0), 1 / (1 + np.exp(-z)), atol=1e-6)
