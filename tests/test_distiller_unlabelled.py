"""A student can learn from the teacher alone."""

import keras
import models
import numpy as np
import pytest

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD


def test_learns_from_unlabelled_data(rng, tmp_path):
    x, _ = models.features(rng)
    teacher, student = models.sequential(8), models.sequential(4, softmax=True)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", loss=None, kd_loss=TemperatureKD(2.0), kd_weight=1.0)
    expected = models.kd(
        np.log(models.outputs(student, x)), models.outputs(teacher, x), temperature=2.0
    )
    logs = distiller.fit(x, batch_size=16, epochs=2, verbose=0).history
    assert set(logs) == {"loss", "kd_loss"}
    np.testing.assert_allclose(logs["kd_loss"][0], expected.mean(), rtol=1e-5)
    assert logs["loss"] == logs["kd_loss"]
    assert logs["loss"][1] < logs["loss"][0]

    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    again = [model.fit(x, batch_size=16, verbose=0).history for model in (distiller, loaded)]
    assert again[0]["loss"] == pytest.approx(again[1]["loss"], rel=1e-6)


def test_regularisation_still_counts(rng):
    x, _ = models.features(rng)
    student = models.linear(kernel_regularizer=keras.regularizers.L2(0.1))
    distiller = keras_ats.Distiller(models.sequential(8), student)
    distiller.compile("sgd", loss=None, kd_loss=TemperatureKD(2.0), kd_weight=1.0)
    penalty = 0.1 * np.sum(student.get_weights()[0] ** 2)
    logs = distiller.train_on_batch(x, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["kd_loss"] + penalty, rtol=1e-5)


def test_missing_labels_are_named(rng):
    x, _ = models.features(rng)
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    distiller.compile("sgd", kd_loss=TemperatureKD())
    with pytest.raises(ValueError, match="no labels to learn from"):
        distiller.fit(x, verbose=0)
    distiller.compile("sgd", loss=None, kd_loss=AsymmetricTemperatureKD(4, 2))
    with pytest.raises(ValueError, match="needs labels"):
        distiller.fit(x, verbose=0)


def test_validation_is_held_against_the_teacher(rng):
    x, _ = models.features(rng)
    teacher, student = models.sequential(8), models.sequential(4, softmax=True)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.1), None, TemperatureKD(2.0), kd_weight=1.0, run_eagerly=True
    )
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    logs = distiller.fit(x, epochs=4, validation_data=(x[:8],), callbacks=[stop], verbose=0).history
    assert len(logs["val_loss"]) == 4
    assert logs["val_loss"] == sorted(logs["val_loss"], reverse=True)
    z = np.log(models.outputs(student, x[:8]))
    expected = models.kd(z, models.outputs(teacher, x[:8]), 2.0).mean()
    assert logs["val_loss"][-1] == pytest.approx(expected, rel=1e-4)
    assert distiller.evaluate(x[:8], verbose=0, return_dict=True) == pytest.approx(
        {"loss": expected, "kd_loss": expected}, rel=1e-4
    )
