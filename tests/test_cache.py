"""A student learns from a cache what it would learn from the live teacher, step by step."""

import itertools

import caches
import keras
import numpy as np
import pytest

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD
from keras_ats.teachers import CachedTeacher

VIEWS, BATCH = 4, 8


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(3)
    return caches.network(name="teacher")


def trained(teacher, batches, steps):
    """Losses of each step, and the student; temperatures are chosen now, and changed on the way."""
    keras.utils.set_random_seed(1)
    student = caches.network(5)
    distiller = keras_ats.Distiller(teacher, student)
    loss = AsymmetricTemperatureKD(6, 3)
    distiller.compile(keras.optimizers.SGD(0.1, 0.9), kd_loss=loss)
    losses = []
    for step, batch in enumerate(itertools.islice(batches.as_numpy_iterator(), steps)):
        if step == steps // 2:
            loss.correct_temperature = 2.0
            loss.wrong_temperature = 1.5
        logs = distiller.train_on_batch(*batch, return_dict=True)
        losses.append([logs["loss"], logs["kd_loss"]])
    return np.array(losses), student


@pytest.mark.parametrize(
    ("dtype", "mixed", "tolerance"),
    [("float32", {}, 1e-5), ("float16", {"mixup": 0.5, "cutmix": 1.0}, 1e-3)],
    ids=["float32", "float16-mixed"],
)
def test_cached_is_live_at_every_step(teacher, tmp_path, dtype, mixed, tolerance):
    samples = caches.samples()
    cache = keras_ats.cache_teacher(
        teacher, samples, tmp_path, views=VIEWS, dtype=dtype, batch_size=BATCH, verbose=0, **mixed
    )
    # One epoch more than there are views.
    steps = (VIEWS + 1) * samples.steps(BATCH)
    assert cache.steps(BATCH) == samples.steps(BATCH) == 3
    for one in (cache, samples):
        with pytest.raises(ValueError, match="no whole batch"):
            one.steps(len(samples) + 1, drop_remainder=True)
    options = {"shuffle": True, "augment": True, "views": VIEWS, **mixed}
    expected, live = trained(teacher, samples.batches(BATCH, **options), steps)
    found, student = trained(cache, cache.batches(BATCH, shuffle=True), steps)
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert np.ptp(expected[:, 1]) > 0.01
    for one, other in zip(live.get_weights(), student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


def test_fit_evaluate_and_predict_and_the_file_of_a_distiller(teacher, tmp_path):
    x, y = np.random.default_rng(0).random((16, *caches.IMAGE), "float32"), np.arange(16) % 4
    keras_ats.cache_teacher(teacher, (x, y), tmp_path / "cache", verbose=0)
    cache = CachedTeacher(tmp_path / "cache")
    distiller = keras_ats.Distiller(cache, caches.network(5))
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2), metrics=["accuracy"])
    assert cache.variables == ()
    history = distiller.fit(
        *cache.attach((x, y)), batch_size=8, epochs=2, validation_data=(x, y), verbose=0
    ).history
    assert history["kd_loss"][0] > 0
    assert np.isfinite(history["val_loss"]).all()
    assert distiller.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] >= 0
    assert distiller.predict(x, verbose=0).shape == (16, 4)
    with pytest.raises(ValueError, match=r"brings no logits along.*cache\.batches"):
        distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded.teacher, CachedTeacher)
    attached = cache.attach((x, y))
    for one in (distiller, loaded):
        one.fit(*attached, batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(
        distiller.student.get_weights(), loaded.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_a_loss_misses_is_said_by_compile(teacher, tmp_path):
    x = np.zeros((8, *caches.IMAGE), "float32")
    cache = keras_ats.cache_teacher(teacher, x, tmp_path, verbose=0)

    class Hint(keras_ats.losses.DistillationLoss):
        needs = keras_ats.Needs(teacher_features=("dense",))

    distiller = keras_ats.Distiller(cache, caches.network(5))
    with pytest.raises(ValueError, match=r"not its inner layers.*\['dense'\]"):
        distiller.compile(kd_loss=Hint())
    again = keras.models.clone_model(teacher)
    again.set_weights(teacher.get_weights())
    assert keras_ats.cache_teacher(again, x, tmp_path, verbose=0).is_whole
    wider = keras.Sequential(
        [keras.Input(caches.IMAGE), keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    with pytest.raises(ValueError, match="a student with 5 classes and a teacher with 4"):
        keras_ats.Distiller(cache, wider)
    augmenting = keras.Sequential(
        [keras.Input(caches.IMAGE), keras.layers.RandomFlip(name="flip"), caches.network(5)]
    )
    with pytest.raises(ValueError, match=r"is for a teacher that is run.*cache_teacher"):
        keras_ats.Distiller(cache, caches.network(5), augmentation=keras.layers.RandomFlip())
    with pytest.warns(UserWarning, match=r"augments what it is given, in \['flip'\]"):
        keras_ats.Distiller(cache, augmenting)


def test_the_pictures_of_fewer_views_come_in_the_epochs_order():
    samples = caches.samples()
    options = {"shuffle": True, "augment": True, "with_ids": True}
    orders, pictures = [], {}
    few = samples.batches(24, views=2, **options).take(4).as_numpy_iterator()
    many = samples.batches(24, **options).take(4).as_numpy_iterator()
    for epoch, (one, other) in enumerate(zip(few, many, strict=True)):
        np.testing.assert_array_equal(one[2], other[2])
        orders.append(one[2].tolist())
        by_id = dict(zip(one[2].tolist(), one[0], strict=True))
        if epoch < 2:
            np.testing.assert_array_equal(one[0], other[0])
            pictures[epoch] = by_id
        else:
            for key, picture in by_id.items():
                np.testing.assert_array_equal(picture, pictures[epoch % 2][key])
    assert orders[0] != orders[2]
