"""Teacher and student that share variables: only those that training leaves alone."""

import keras
import models
import numpy as np
import pytest
from backends import on_one_backend
from keras import layers

from keras_ats import Distiller, distill_chain
from keras_ats.losses import TemperatureKD
from keras_ats.teachers import Ensemble

REFUSED = r"share variables that training would change.*{}.*clone_model"


def on(trunk, name):
    """A head of its own on the trunk."""
    inputs = keras.Input((models.FEATURES,))
    head = layers.Dense(models.CLASSES, name=f"{name}_head")
    return keras.Model(inputs, head(trunk(inputs)), name=name)


def trunk(trainable=True):
    return layers.Dense(4, "relu", trainable=trainable, name="trunk")


def train(distiller):
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    raise AssertionError("it must not come to this")


@on_one_backend("variables are compared before anything is computed")
def test_a_trainable_layer_of_both_is_refused():
    shared = trunk()
    teacher, student = on(shared, "teacher"), on(shared, "student")
    with pytest.raises(ValueError, match=REFUSED.format("trunk/kernel")):
        Distiller(teacher, student)
    # Frozen in the student's eyes alone: the layer is one.
    student.trainable = False
    Distiller(teacher, student)


@on_one_backend("variables are compared before anything is computed")
def test_a_teacher_that_contains_the_student_is_refused():
    student, other = models.linear(name="student"), models.linear()
    inputs = keras.Input((models.FEATURES,))
    around = keras.Model(inputs, layers.Dense(models.CLASSES)(student(inputs)))
    for teacher in (Ensemble([other, student]), around):
        with pytest.raises(ValueError, match=REFUSED.format("kernel")):
            Distiller(teacher, student)
    with pytest.raises(ValueError, match=REFUSED.format("kernel")):
        distill_chain([around, student], train)


@on_one_backend("models are compared before anything is computed")
def test_a_chain_does_not_come_back_to_a_model():
    first, second = models.linear(), models.linear()
    for chain in ([first, second, first], [first, first], [first, second, second]):
        with pytest.raises(ValueError, match=r"The models of a chain must differ.*clone_model"):
            distill_chain(chain, train)


def test_a_frozen_layer_of_both_is_fine(rng):
    x, y = models.features(rng)
    shared = trunk(trainable=False)
    teacher, student = on(shared, "teacher"), on(shared, "student")
    before, of_student = models.numpy_weights(teacher), models.numpy_weights(student)
    distiller = Distiller(teacher, student)
    compiled = keras.backend.backend() == "jax"
    distiller.compile("sgd", kd_loss=TemperatureKD(4), evaluate_teacher=True, jit_compile=compiled)
    distiller.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    distiller.predict(x, verbose=0)
    for actual, expected in zip(models.numpy_weights(teacher), before, strict=True):
        np.testing.assert_array_equal(actual, expected)
    moved = [
        not np.array_equal(*pair)
        for pair in zip(models.numpy_weights(student), of_student, strict=True)
    ]
    assert moved == [False, False, True, True]


@on_one_backend("variables are compared before anything is computed")
def test_a_layer_that_is_unfrozen_later_is_refused_then(rng):
    x, y = models.features(rng)
    shared = trunk(trainable=False)
    distiller = Distiller(on(shared, "teacher"), on(shared, "student"))
    shared.trainable = True
    with pytest.raises(ValueError, match=REFUSED.format("trunk/kernel")):
        distiller.compile("sgd", kd_loss=TemperatureKD(4))
    shared.trainable = False
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    shared.trainable = True
    with pytest.raises(ValueError, match=REFUSED.format("trunk/kernel")):
        distiller.fit(x, y, verbose=0)


@on_one_backend("variables are compared before anything is computed")
def test_a_student_that_is_built_later_is_looked_at_then():
    shared = trunk()
    teacher = on(shared, "teacher")
    student = keras.Sequential([shared, layers.Dense(models.CLASSES)], name="student")
    distiller = Distiller(teacher, student)
    with pytest.raises(ValueError, match=REFUSED.format("trunk/kernel")):
        distiller.build((None, models.FEATURES))
