"""Weights files belong to losses of a class and a name, and say what differs."""

import re

import keras
import models
import numpy as np
import pytest
from backends import on_one_backend

from keras_ats import Distiller, temperatures
from keras_ats.losses import (
    AsymmetricTemperatureKD,
    DecoupledKD,
    LogitMSE,
    NormalizedKD,
    SoftTargetKD,
    TemperatureKD,
)

pytestmark = on_one_backend("files are Keras's, and names are compared")


def value(variable):
    return float(keras.ops.convert_to_numpy(variable))


def compiled(kd_loss, **arguments):
    distiller = Distiller(models.sequential(8), models.linear())
    distiller.compile("sgd", kd_loss=kd_loss, **arguments)
    distiller.optimizer.build(distiller.trainable_variables)
    return distiller


OTHERS = {
    "fewer": (AsymmetricTemperatureKD(4, 2), TemperatureKD(8), "AsymmetricTemperatureKD"),
    "as many": (DecoupledKD(4, 1, 8), NormalizedKD(2), "DecoupledKD"),
    "same variables": (TemperatureKD(4), NormalizedKD(2), "TemperatureKD"),
    "rule": (
        SoftTargetKD(temperatures.Constant(4)),
        SoftTargetKD(temperatures.Learned()),
        "SoftTargetKD",
    ),
    "list order": (
        [TemperatureKD(4), AsymmetricTemperatureKD(4, 2)],
        [AsymmetricTemperatureKD(4, 2), TemperatureKD(4)],
        "0.TemperatureKD",
    ),
    "shorter": ([TemperatureKD(4), LogitMSE()], [TemperatureKD(4)], "1.LogitMSE.share"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_loss_is_refused_and_nothing_is_changed(name, tmp_path):
    saved, other, told = OTHERS[name]
    path = tmp_path / "a.weights.h5"
    compiled(saved).save_weights(path)
    distiller = compiled(other)
    before = [value(one) for one in distiller._objective.saved_variables.values() if not one.ndim]
    with pytest.raises(
        ValueError, match=r"(?s)another `kd_loss`.*Only in the file: .*" + re.escape(told)
    ):
        distiller.load_weights(path)
    after = [value(one) for one in distiller._objective.saved_variables.values() if not one.ndim]
    assert after == before


def test_a_weight_that_is_given_or_follows_differs_too(tmp_path):
    path = tmp_path / "a.weights.h5"
    compiled(TemperatureKD(4), student_weight=2.0).save_weights(path)
    with pytest.raises(ValueError, match=r"Only in the file: \['student_weight'\]"):
        compiled(TemperatureKD(4)).load_weights(path)


def test_the_files_numbers_win_and_are_told(tmp_path):
    path = tmp_path / "a.weights.h5"
    compiled(AsymmetricTemperatureKD(4, 2), kd_weight=0.3).save_weights(path)
    distiller = compiled(AsymmetricTemperatureKD(5, 2), kd_weight=0.7)
    with pytest.warns(UserWarning, match=r"The file's values win") as warned:
        distiller.load_weights(path)
    (text,) = [str(one.message) for one in warned if "values win" in str(one.message)]
    assert "kd_weight: 0.3 instead of 0.7" in text
    assert "correct_temperature: 4 instead of 5" in text
    assert "wrong_temperature" not in text
    assert value(distiller.kd_loss.correct_temperature) == 4.0
    assert value(distiller.kd_weight) == pytest.approx(0.3)


def test_the_same_numbers_are_loaded_without_a_word(tmp_path, recwarn):
    path = tmp_path / "a.weights.h5"
    saved = compiled(AsymmetricTemperatureKD(4, 2))
    saved.save_weights(path)
    distiller = compiled(AsymmetricTemperatureKD(4, 2))
    distiller.load_weights(path)
    assert not [one for one in recwarn if "values win" in str(one.message)]
    for one, other in zip(distiller.student.weights, saved.student.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def two_heads():
    inputs = keras.Input((models.FEATURES,))
    heads = [keras.layers.Dense(models.CLASSES, name=name)(inputs) for name in ("a", "b")]
    return keras.Model(inputs, heads)


def test_losses_of_outputs_are_found_by_name_in_any_order(tmp_path):
    path = tmp_path / "a.weights.h5"

    def distiller(kd_loss):
        made = Distiller(two_heads(), two_heads())
        made.compile("sgd", kd_loss=kd_loss)
        made.optimizer.build(made.trainable_variables)
        return made

    distiller({"a": TemperatureKD(3), "b": TemperatureKD(7)}).save_weights(path)
    loaded = distiller({"b": TemperatureKD(1), "a": TemperatureKD(1)})
    with pytest.warns(UserWarning, match="values win"):
        loaded.load_weights(path)
    assert value(loaded.kd_loss["a"].temperature) == 3.0
    assert value(loaded.kd_loss["b"].temperature) == 7.0
    with pytest.raises(ValueError, match="another `kd_loss`"):
        distiller({"a": TemperatureKD(1), "b": AsymmetricTemperatureKD(4, 2)}).load_weights(path)
