"""Losses from a teacher's largest logits and the sum of the others."""

import caches
import keras
import numpy as np
import pytest
from backends import on_one_backend
from gradients import value_and_gradient
from keras import ops
from models import log_softmax

import keras_ats
from keras_ats import TopKLogits
from keras_ats.adjustments import Swap
from keras_ats.losses import (
    AsymmetricTemperatureKD,
    DecoupledKD,
    NormalizedKD,
    SoftTargetKD,
    TemperatureKD,
    TransformedTeacherKD,
)
from keras_ats.ops.tail import tail_log_sum_exp
from keras_ats.teachers.cache.rows import RowFormat

CLASSES, ROWS, KEPT = 60, 8, 5
# Kept with float32 differences, the tail interpolated: what a probability may be off by.
TOLERANCE = 1e-3


@pytest.fixture
def batch(rng):
    student = caches.random_logits(rng, (ROWS, CLASSES))
    teacher = caches.random_logits(rng, (ROWS, CLASSES))
    return student, teacher, rng.integers(0, CLASSES, ROWS)


def kept(teacher, labels, top_k=KEPT, marks=1):
    """What a cache gives a loss of these logits."""
    form = RowFormat(CLASSES, dtype="float32", top_k=top_k, labels=marks)
    rows = form.encode(teacher, labels)
    carried = {name: ops.convert_to_tensor(part) for name, part in form.carry(rows).items()}
    values = carried["maximum"][..., None] + carried["differences"]
    names = ("ids", "maximum", "tail", "count", "mean")
    return TopKLogits(values, *(carried[name] for name in names), CLASSES), rows["ids"]


def kl(target, logs):
    return (np.exp(target) * (target - logs)).sum(axis=-1)


def expected_kd(student, teacher, labels, ids, t=3.0):
    return t**2 * kl(
        caches.joined(log_softmax(teacher, t), ids), caches.joined(log_softmax(student, t), ids)
    )


def expected_ats(student, teacher, labels, ids):
    temperatures = np.where(np.arange(CLASSES) == labels[:, None], 4.0, 2.0)
    target = caches.joined(log_softmax(teacher, temperatures), ids)
    return -(np.exp(target) * caches.joined(log_softmax(student), ids)).sum(axis=-1)


def expected_dkd(student, teacher, labels, ids, t=4.0):
    target, logs = (caches.joined(log_softmax(one, t), ids) for one in (teacher, student))
    is_label = np.concatenate([ids == labels[:, None], np.zeros((ROWS, 1), bool)], -1)

    def parts(values):
        p = np.exp(values)
        right = p[is_label]
        wrong = np.where(is_label, 0, p)
        return np.log(np.stack([right, wrong.sum(-1)], -1)), np.log(
            np.where(is_label, 1, wrong / wrong.sum(-1, keepdims=True))
        )

    (a, b), (c, d) = parts(target), parts(logs)
    wrong = np.where(is_label, 0, np.exp(b) * (b - d)).sum(-1)
    return t**2 * (kl(a, c) + 8.0 * wrong)


LOSSES = {
    "kd": (TemperatureKD(3.0, reduction="none"), expected_kd),
    "ats": (AsymmetricTemperatureKD(4, 2, reduction="none"), expected_ats),
    "dkd": (DecoupledKD(4.0, reduction="none"), expected_dkd),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_the_kept_classes_and_one_more(batch, name):
    student, teacher, labels = batch
    loss, expected = LOSSES[name]
    stored, ids = kept(teacher, labels)
    found = ops.convert_to_numpy(loss(student, stored, labels=labels))
    np.testing.assert_allclose(
        found, expected(*map(np.float64, batch[:2]), labels, ids), rtol=2 * TOLERANCE, atol=1e-3
    )
    _, gradient = value_and_gradient(lambda z: ops.sum(loss(z, stored, labels=labels)), student)
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=0) > 0).all()  # It reaches the classes that were not kept.
    # Never more than from all logits: what is told apart within the others is lost.
    if name == "kd":
        full = 9.0 * kl(log_softmax(teacher, 3.0), log_softmax(student, 3.0))
        assert (found <= full + 1e-3).all()


def test_ignored_masked_and_soft_labels_and_the_teachers_own(batch):
    student, teacher, labels = batch
    stored, _ = kept(teacher, labels)
    loss = AsymmetricTemperatureKD(4, 2)
    one_by_one = ops.convert_to_numpy(
        AsymmetricTemperatureKD(4, 2, reduction="none")(student, stored, labels=labels)
    )
    mask = np.arange(ROWS) < 5
    masked = loss(student, stored, labels=labels, mask=mask)
    np.testing.assert_allclose(masked, one_by_one[:5].mean(), rtol=1e-5)
    for ignored in (255, 0, -100):
        marked = np.where(mask, np.where(labels == 0, 1, labels), ignored)
        stored_for, _ = kept(teacher, np.where(labels == 0, 1, labels))
        found = AsymmetricTemperatureKD(4, 2, ignore_label=ignored)(
            student, stored_for, labels=marked
        )
        given = loss(student[:5], _first(stored_for, 5), labels=marked[:5])
        np.testing.assert_allclose(found, given, rtol=1e-5)
    rows = np.eye(CLASSES, dtype="float32")[labels]
    np.testing.assert_allclose(loss(student, stored, labels=rows), one_by_one.mean(), rtol=1e-5)
    other = (labels + 1) % CLASSES
    mixed = 0.6 * rows + 0.4 * np.eye(CLASSES, dtype="float32")[other]
    both, ids = kept(teacher, mixed, marks=2)
    target = caches.joined(log_softmax(teacher, mixed * 4.0 + (1 - mixed) * 2.0), ids)
    expected = -(np.exp(target) * caches.joined(log_softmax(student), ids)).sum(axis=-1).mean()
    np.testing.assert_allclose(loss(student, both, labels=mixed), expected, rtol=TOLERANCE)
    # A label that the cache does not know is no number, rather than a wrong one.
    unknown = np.argmin(teacher, axis=-1)
    assert np.isnan(ops.convert_to_numpy(loss(student, stored, labels=unknown)))
    assert np.isnan(ops.convert_to_numpy(loss(student, stored, labels=0.5 * rows + 0.5 / CLASSES)))
    pseudo = AsymmetricTemperatureKD(4, 2, pseudo_labels=True)(student, stored)
    expected = loss(student, stored, labels=teacher.argmax(axis=-1))
    np.testing.assert_allclose(pseudo, expected, rtol=1e-6)


@on_one_backend("NumPy looks at labels in memory")
def test_soft_labels_on_classes_that_were_not_kept_are_refused(tmp_path, rng):
    x = rng.normal(size=(16, 8)).astype("float32")
    rows = np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, 16)]
    smoothed = 0.9 * rows + 0.1 / CLASSES
    kernel = rng.normal(size=(8, CLASSES)).astype("float32")
    cache = keras_ats.cache_teacher(
        lambda batch: batch @ kernel, (x, smoothed), tmp_path, name="k", top_k=4, verbose=0
    )
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(CLASSES)])
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2))
    attached = cache.attach((x, smoothed))
    with pytest.raises(ValueError, match=r"0\.\d+ on other classes than the 6 kept.*TemperatureKD"):
        distiller.fit(*attached, verbose=0)
    with pytest.raises(ValueError, match="y of the first batch with a row"):
        distiller.fit(tf_batches(attached), verbose=0)
    before = student.get_weights()[0]
    assert np.isfinite(distiller.fit(attached[0], rows, verbose=0).history["loss"]).all()
    assert not np.array_equal(before, student.get_weights()[0])
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    assert np.isfinite(distiller.fit(*attached, verbose=0).history["loss"]).all()


def tf_batches(attached):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(attached).batch(16)


def _first(stored, count):
    return TopKLogits(*(part[:count] for part in stored[:-1]), CLASSES)


def test_what_needs_all_logits_is_refused(batch):
    student, teacher, labels = batch
    stored, _ = kept(teacher, labels)
    with pytest.raises(
        ValueError, match=r"a student with 59 classes.*a teacher with 60.*classes=59"
    ):
        TemperatureKD(4.0)(student[:, :59], stored)
    able = [
        TransformedTeacherKD(4.0, weighted=False),
        SoftTargetKD(4.0, divergence="reverse_kl"),
    ]
    learned = TemperatureKD(4.0)
    # What is kept of the others has no gradient in it.
    learned.temperature.trainable = True
    unable = [
        learned,
        NormalizedKD(),
        TemperatureKD(4.0, adjustment=Swap()),
        DecoupledKD(adjustment=Swap()),
        TransformedTeacherKD(4.0, weighted=True),
        SoftTargetKD(keras_ats.temperatures.FocalWeighted()),
    ]
    assert all(loss.needs.heads[0].top_k for loss in able)
    for loss in unable:
        assert not loss.needs.heads[0].top_k
        with pytest.raises(ValueError, match="reads all logits of the teacher"):
            loss(student, stored, labels=labels)


@on_one_backend("NumPy, and sums")
@pytest.mark.parametrize(
    ("draw", "bound"),
    [
        (lambda rng, shape: rng.normal(0, 1, shape), 2e-5),
        (lambda rng, shape: rng.normal(0, 6, shape), 1e-3),
        (lambda rng, shape: -rng.exponential(5, shape), 1e-3),
        (lambda rng, shape: -rng.uniform(0, 40, shape), 2e-3),
        (lambda rng, shape: 2 * rng.standard_t(3, shape), 1e-2),
    ],
    ids=["normal", "wide", "exponential", "uniform", "heavy"],
)
@pytest.mark.parametrize(("classes", "top_k"), [(100, 10), (1000, 10), (20000, 64)])
def test_the_share_of_the_tail_is_within_its_bound(rng, draw, bound, classes, top_k):
    logits = draw(rng, (20, classes)).astype("float32")
    rows = RowFormat(classes, dtype="float32", top_k=top_k, labels=0).encode(logits)
    rest = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    for temperature in (0.5, 0.7, 1, 1.5, 2, 4, 8, 20, 100):
        scaled = np.exp(rest / temperature)
        top = np.take_along_axis(scaled, rows["ids"].astype(int), axis=-1).sum(axis=-1)
        share = 1 - top / scaled.sum(axis=-1)
        tail = np.exp(
            ops.convert_to_numpy(
                tail_log_sum_exp(rows["tail"], rows["count"], rows["mean"], temperature)
            )
        )
        assert np.abs(tail / (tail + top) - share).max() < bound
    below = tail_log_sum_exp(rows["tail"], rows["count"], rows["mean"], 0.49)
    assert np.isnan(ops.convert_to_numpy(below)).all()


def test_a_cache_of_the_largest_teaches_and_says_what_it_cannot(tmp_path, rng):
    x, y = rng.normal(size=(12, 6)).astype("float32"), rng.integers(0, CLASSES, 12)
    teacher, student = (
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(CLASSES)]) for _ in range(2)
    )
    cache = keras_ats.cache_teacher(teacher, (x, y), tmp_path, top_k=KEPT, verbose=0)
    distiller = keras_ats.Distiller(cache, student)
    with pytest.raises(ValueError, match=r"reads all of them.*TemperatureKD.*without top_k"):
        distiller.compile(kd_loss=NormalizedKD())
    distiller.compile(keras.optimizers.SGD(0.1), kd_loss=AsymmetricTemperatureKD(4, 2))
    expected = AsymmetricTemperatureKD(4, 2)(
        ops.stop_gradient(student(x)), kept(ops.convert_to_numpy(teacher(x)), y)[0], labels=y
    )
    logs = distiller.fit(
        *cache.attach((x, y)), batch_size=12, epochs=3, shuffle=False, verbose=0
    ).history
    np.testing.assert_allclose(logs["kd_loss"][0], expected, rtol=1e-3)
    assert logs["loss"][-1] < logs["loss"][0]
    cache.verify(teacher, data=(x, y))
    with pytest.raises(ValueError, match="`top_k` must leave some of the classes out"):
        keras_ats.cache_teacher(teacher, (x, y), tmp_path / "b", top_k=59, verbose=0)
