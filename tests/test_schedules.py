"""Schedules set what they say, by epoch and step, under jit, and again when resumed."""

import csv
import math

import keras
import models
import numpy as np
import pytest
import reference
from backends import on_one_backend

from keras_ats import Distiller, callbacks, losses, metrics
from keras_ats.callbacks import (
    Backup,
    DistillationMonitor,
    KDWeightSchedule,
    Ramp,
    Schedule,
    TemperatureSchedule,
)

to_numpy = keras.ops.convert_to_numpy


def numbers(schedule, places):
    return [schedule.value(place) for place in range(places)]


@on_one_backend("plain numbers")
def test_plans():
    assert numbers(Schedule("a", 3.0), 2) == [3.0, 3.0]
    assert numbers(Schedule("a", [1, 2]), 4) == [1, 2, 2, 2]
    assert numbers(Schedule("a", np.linspace(1, 2, 3)), 4) == [1, 1.5, 2, 2]
    assert numbers(Schedule("a", {0: 5.0, 2: 1.0}), 4) == [5, 5, 1, 1]
    decay = keras.optimizers.schedules.PolynomialDecay(8.0, 2, 4.0)
    assert numbers(Schedule("a", decay), 3) == [8, 6, 4]
    assert numbers(Schedule("a", lambda place: np.float32(place)), 3) == [0, 1, 2]
    assert numbers(Schedule("a", Ramp(8.0, 2.0, 3)), 5) == [8, 6, 4, 2, 2]
    half = [Ramp(0.0, 1.0, 4, "cosine")(place) for place in (0, 1, 2, 4, 9)]
    expected = [0, 0.5 * (1 - math.cos(math.pi / 4)), 0.5, 1, 1]
    np.testing.assert_allclose(half, expected)


class Watch(keras.callbacks.Callback):
    """Notes the variables before each batch, after the schedules have set them."""

    def __init__(self, *variables):
        super().__init__()
        self.watched, self.seen = variables, []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append([float(to_numpy(one)) for one in self.watched])


def distilled(kd_loss, **options):
    distiller = Distiller(models.sequential(), models.linear())
    distiller.compile(keras.optimizers.SGD(0.0), kd_loss=kd_loss, **options)
    return distiller


def test_what_is_set_acts_in_compiled_steps_by_epoch_and_by_step(rng):
    x, y = models.features(rng, 12)
    kd_loss = losses.AsymmetricTemperatureKD(4, 2)
    distiller = distilled(kd_loss)
    watch = Watch(kd_loss.correct_temperature, kd_loss.wrong_temperature, distiller.kd_weight)
    plan = Ramp(9.0, 3.0, 3)
    logs = distiller.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            TemperatureSchedule(correct_temperature=plan, by="step"),
            TemperatureSchedule(wrong_temperature={0: 3.0, 1: 1.5}),
            KDWeightSchedule([0.25, 1.0]),
            watch,
        ],
    ).history
    correct = [plan(step) for step in range(6)]
    assert watch.seen == [[one, 3.0, 0.25] for one in correct[:3]] + [
        [one, 1.5, 1.0] for one in correct[3:]
    ]
    said = [to_numpy(model(x)) for model in (distiller.student, distiller.teacher)]
    rows = models.one_hot(y)
    for epoch, wrong in enumerate((3.0, 1.5)):
        each = [
            models.ats(rows[part], said[0][part], said[1][part], correct[3 * epoch + batch], wrong)
            for batch, part in enumerate([slice(0, 4), slice(4, 8), slice(8, 12)])
        ]
        np.testing.assert_allclose(logs["kd_loss"][epoch], np.mean(each), rtol=1e-4)
    np.testing.assert_allclose(logs["loss"][1], logs["kd_loss"][1], rtol=1e-5)


@on_one_backend("what is read from the epoch or the step")
@pytest.mark.parametrize("by", ["epoch", "step"])
def test_a_resumed_run_goes_on_with_its_plan(by, rng, tmp_path):
    x, y = models.features(rng, 12)
    seen = []
    for epochs in (2, 4):
        kd_loss = losses.TemperatureKD(4.0)
        distiller = distilled(kd_loss)
        watch = Watch(kd_loss.temperature)
        schedule = TemperatureSchedule(Ramp(9.0, 1.0, 8), by=by)
        backup = Backup(tmp_path / "backup", delete_checkpoint=False)
        distiller.fit(
            x,
            y,
            batch_size=4,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[schedule, backup, watch],
        )
        seen += [value for (value,) in watch.seen]
    places = range(12) if by == "step" else np.repeat(range(4), 3)
    np.testing.assert_allclose(seen, [Ramp(9.0, 1.0, 8)(int(place)) for place in places])


@on_one_backend("a variable is a variable")
def test_a_variable_of_any_model(rng):
    x, y = models.features(rng, 4)
    model = models.linear()
    model.compile("sgd", "sparse_categorical_crossentropy")
    rate = model.optimizer.learning_rate
    watch = Watch(rate)
    schedule = Schedule(rate, [0.5, 0.25], by="step")
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[schedule, watch])
    assert watch.seen == [[0.5], [0.25]]


@on_one_backend("errors come before the first batch")
@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (Schedule("temprature", 4.0), ValueError, r"'temprature'.*'correct_temperature'"),
        (TemperatureSchedule(4.0), ValueError, "found no variable of this name"),
        (KDWeightSchedule([0.5, 1.5]), ValueError, r"within \[0, 1\]"),
        (Schedule("correct_temperature", [4.0, -1.0]), ValueError, "above 0"),
        (Schedule("kd_weight", lambda epoch: "much"), TypeError, "that returns a number"),
    ],
    ids=["misspelt", "other loss", "weight", "temperature", "no number"],
)
def test_a_plan_that_cannot_be_followed_is_refused(schedule, error, message, rng):
    x, y = models.features(rng, 4)
    distiller = distilled(losses.AsymmetricTemperatureKD(4, 2))
    with pytest.raises(error, match=message):
        distiller.fit(x, y, epochs=2, verbose=0, callbacks=[schedule])
    assert int(to_numpy(distiller.optimizer.iterations)) == 0


@on_one_backend("constructors")
@pytest.mark.parametrize("values", [{}, {1: 2.0}, [], "4", None, np.eye(2)])
def test_what_is_no_plan(values):
    with pytest.raises((TypeError, ValueError), match="`values`"):
        Schedule("kd_weight", values)
    with pytest.raises((TypeError, ValueError), match="`kd_weight`"):
        KDWeightSchedule(values)
    with pytest.raises(TypeError, match="a number, a list of numbers, a dict"):
        Schedule("kd_weight", "linear")
    with pytest.raises(TypeError, match="a function that returns a number"):
        Schedule("kd_weight", lambda epoch: None).value(0)


def test_monitor_writes_what_the_metrics_say_of_fixed_samples(rng, tmp_path):
    x, y = models.features(rng, 12)
    distiller = Distiller(models.sequential(softmax=True), models.linear())
    distiller.compile(keras.optimizers.SGD(0.5), kd_loss=losses.TemperatureKD(4.0))
    monitor = DistillationMonitor(
        x[:8], y[:8], [metrics.TeacherDivergence(2.0), metrics.DerivedAverage(of="student")]
    )
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    logs = distiller.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[monitor, log]).history
    lesson = distiller.lesson(x[:8], y[:8])
    student, teacher = (to_numpy(one.logits) for one in (lesson.student, lesson.teacher))
    expected = reference.kl(
        reference.log_softmax(teacher, 2.0), reference.log_softmax(student, 2.0)
    ).mean()
    np.testing.assert_allclose(logs["monitor_teacher_divergence"][1], expected, rtol=1e-4)
    average = reference.derived_average(reference.softmax(student), y[:8]).mean()
    np.testing.assert_allclose(logs["monitor_student_derived_average"][1], average, rtol=1e-4)
    assert logs["monitor_teacher_divergence"][0] != logs["monitor_teacher_divergence"][1]
    with (tmp_path / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    np.testing.assert_allclose(float(rows[1]["monitor_teacher_divergence"]), expected, rtol=1e-4)


@on_one_backend("errors come first")
def test_monitor_wants_a_distiller_and_metrics(rng):
    x, y = models.features(rng, 4)
    model = models.linear()
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="DistillationMonitor watches a distiller"):
        model.fit(x, models.one_hot(y), verbose=0, callbacks=[callbacks.DistillationMonitor(x, y)])
    with pytest.raises(TypeError, match="`metrics` must be of keras_ats"):
        DistillationMonitor(x, y, [keras.metrics.Mean()])
    with pytest.raises(ValueError, match=r"as many samples.* arrays of 4, 3"):
        DistillationMonitor(x, y[:3])
    twice = [metrics.TeacherDivergence(), metrics.TeacherDivergence(4.0)]
    with pytest.raises(ValueError, match="each have a name of its own"):
        DistillationMonitor(x, y, twice)
