"""Labels that come in batches: the first batch is looked at where Keras reads one beforehand."""

import keras
import models
import numpy as np
import pytest

import keras_ats
from keras_ats import losses

BACKEND = keras.backend.backend()
SIZE = 4
reads_a_batch = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="Keras reads no batch there before it trains"
)


def generator(*arrays):
    while True:
        for start in range(0, len(arrays[0]), SIZE):
            yield tuple(array[start : start + SIZE] for array in arrays)


SOURCES = {
    "py_dataset": lambda *arrays: {"x": models.batches(*arrays, size=SIZE)},
    "generator": lambda *arrays: {"x": generator(*arrays), "steps_per_epoch": 4},
}


def compiled(**options):
    distiller = keras_ats.Distiller(models.linear(), models.linear(softmax=True))
    distiller.compile("sgd", kd_loss=losses.AsymmetricTemperatureKD(4, 2), **options)
    return distiller


def with_label(rng, value, at):
    x, y = models.features(rng)
    y[at] = value
    return x, y


@reads_a_batch
@pytest.mark.parametrize("source", SOURCES)
def test_ids_that_count_from_one_are_refused_before_the_first_step(source, rng):
    distiller = compiled()
    before = models.numpy_weights(distiller.student)
    with pytest.raises(ValueError, match=r"0 to 2.*0 to 3 as y of the first batch.*`labels - 1`"):
        distiller.fit(**SOURCES[source](*with_label(rng, 3, 0)), shuffle=False, verbose=0)
    for one, other in zip(before, models.numpy_weights(distiller.student), strict=True):
        np.testing.assert_array_equal(one, other)


@reads_a_batch
def test_other_labels_that_are_none(rng):
    x, y = models.features(rng)
    data = models.batches(x, 100 * models.one_hot(y), size=SIZE)
    with pytest.raises(ValueError, match=r"y of the first batch with the row.*divide by 100"):
        compiled().fit(data, verbose=0)
    with pytest.raises(ValueError, match=r"y of the first batch with the row.*divide by 100"):
        compiled().evaluate(data, verbose=0)


@pytest.mark.parametrize("at", [0, -1])
def test_ids_out_of_range_are_not_silent(at, rng):
    # Later batches, and the first one on TensorFlow.
    data = SOURCES["py_dataset"](*with_label(rng, 3, at))
    if BACKEND == "jax" and at == -1:
        assert np.isnan(compiled().fit(**data, shuffle=False, verbose=0).history["loss"]).all()
    else:
        with pytest.raises(Exception, match=r"(?i)valid range|out of bounds|from 0 to 3"):
            compiled(jit_compile=False).fit(**data, shuffle=False, verbose=0)


@pytest.mark.parametrize("source", SOURCES)
def test_a_batch_that_was_looked_at_is_trained_on_as_ever(source, rng):
    arrays = models.features(rng)
    keras.utils.set_random_seed(1)
    expected = compiled().fit(*arrays, batch_size=SIZE, shuffle=False, verbose=0).history["loss"]
    keras.utils.set_random_seed(1)
    logs = compiled().fit(**SOURCES[source](*arrays), shuffle=False, verbose=0).history["loss"]
    assert logs == pytest.approx(expected, rel=1e-5)


def test_ignored_labels_of_a_batch_pass(rng):
    data = SOURCES["py_dataset"](*with_label(rng, 255, 0))
    loss = losses.LabelCrossentropy(ignore_class=255)
    distiller = keras_ats.Distiller(models.linear(), models.linear())
    distiller.compile("sgd", loss, kd_loss=losses.AsymmetricTemperatureKD(4, 2))
    assert np.isfinite(distiller.fit(**data, shuffle=False, verbose=0).history["loss"]).all()
