"""Distiller, point 6: saved, loaded and trained on as if nothing had happened."""

import os
import pathlib
import subprocess
import sys
import zipfile

import h5py
import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend

from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD

BACKEND = keras.backend.backend()
TESTS = pathlib.Path(__file__).parent
LARGE = 20_000  # Width of a teacher whose weights take 0.7 MB.


def adam():
    """Two slots per weight, and a learning rate that depends on the step."""
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.7))


def numpy(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def same(actual, expected, tolerance=1e-6):
    for one, other in zip(numpy(actual), numpy(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def value(variable):
    return float(keras.ops.convert_to_numpy(variable))


def unbuilt(name=None):
    """A Sequential student that learns its input shape from the first batch."""
    layers = keras.layers
    return keras.Sequential([layers.Dense(4, "relu"), layers.Dense(models.CLASSES)], name=name)


def with_dropout(name=None):
    return models.stochastic(softmax=True, name=name)


def without_dropout(name=None):
    return models.stochastic(dropout=0.0, name=name)


def softmax_ended(name=None):
    return models.functional(softmax=True, name=name)


STUDENTS = [softmax_ended, without_dropout, with_dropout, models.subclassed, unbuilt]


@pytest.mark.filterwarnings("ignore:ModelCheckpoint.* saves the whole distiller:UserWarning")
@cases_in_turn("a student is saved by Keras, whatever it is made of")
@pytest.mark.parametrize("build", STUDENTS, ids=lambda build: build.__name__)
def test_two_and_two_epochs_are_four(rng, tmp_path, build):
    if build is with_dropout and BACKEND == "torch":
        pytest.skip("Keras draws dropout on torch from torch's global generator, not from a seed")
    x, y = models.features(rng, 20)
    data = {"batch_size": 10, "shuffle": False, "validation_data": (x, y), "verbose": 0}
    told = {"student_from_logits": True} if build is models.subclassed else {}
    distiller = Distiller(models.stochastic(softmax=True), build(), **told)
    distiller.compile(
        adam(), kd_loss=AsymmetricTemperatureKD(4, 2), kd_weight=0.3, metrics=["accuracy"]
    )
    saves = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    history = distiller.fit(x, y, epochs=4, callbacks=[saves], **data).history

    resumed = keras.saving.load_model(tmp_path / "2.keras")
    assert type(resumed) is Distiller
    assert type(resumed.student) is type(distiller.student)
    assert int(value(resumed.optimizer.iterations)) == 4
    later = resumed.fit(x, y, initial_epoch=2, epochs=4, **data).history
    assert set(later) == set(history)
    for name, values in history.items():
        np.testing.assert_allclose(later[name], values[2:], rtol=1e-5, err_msg=name)
    same(resumed.student.variables, distiller.student.variables)
    same(resumed.optimizer.variables, distiller.optimizer.variables)
    same(resumed.teacher.weights, distiller.teacher.weights, 0)


def test_optimizer_slots_come_back_before_any_step(rng, tmp_path):
    x, y = models.features(rng)
    distiller = Distiller(models.sequential(), models.sequential())
    distiller.compile(adam(), kd_loss=TemperatureKD(4))
    distiller.fit(x, y, batch_size=8, verbose=0)
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    same(loaded.optimizer.variables, distiller.optimizer.variables, 0)
    assert max(np.abs(slot).max() for slot in numpy(loaded.optimizer.variables)[2:]) > 0


def test_what_training_changed_survives(rng, tmp_path):
    x, y = models.features(rng)
    distiller = Distiller(models.sequential(), models.sequential(softmax=True))
    distiller.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        kd_loss=AsymmetricTemperatureKD(4, 2, student_temperature=1.5),
        metrics=["accuracy"],
        evaluate_teacher=True,
    )
    distiller.kd_weight.assign(0.2)
    distiller.kd_loss.correct_temperature.assign(7.0)
    distiller.kd_loss.wrong_temperature.assign(3.0)
    distiller.kd_loss.student_temperature.assign(2.5)
    logs = distiller.evaluate(x, y, return_dict=True, verbose=0)
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert value(loaded.kd_weight) == pytest.approx(0.2)
    assert value(loaded.student_weight) == pytest.approx(0.8)
    assert value(loaded.kd_loss.correct_temperature) == 7.0
    assert value(loaded.kd_loss.wrong_temperature) == 3.0
    assert value(loaded.kd_loss.student_temperature) == 2.5
    assert loaded.evaluate(x, y, return_dict=True, verbose=0) == pytest.approx(logs, rel=1e-6)
    # Still variables that the compiled steps read.
    loaded.kd_loss.correct_temperature.assign(1.0)
    loaded.kd_weight.assign(0.9)
    distiller.kd_loss.correct_temperature.assign(1.0)
    distiller.kd_weight.assign(0.9)
    logs = distiller.evaluate(x, y, return_dict=True, verbose=0)
    assert loaded.evaluate(x, y, return_dict=True, verbose=0) == pytest.approx(logs, rel=1e-6)


def test_a_given_student_weight_survives(rng, tmp_path):
    distiller = Distiller(models.sequential(), models.linear())
    distiller.compile("sgd", kd_loss=TemperatureKD(3), kd_weight=0.25, student_weight=2.0)
    distiller.train_on_batch(*models.features(rng))
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert (value(loaded.kd_weight), value(loaded.student_weight)) == (0.25, 2.0)
    loaded.kd_weight.assign(0.75)
    assert value(loaded.student_weight) == 2.0


def test_compiled_and_partly_frozen_models_come_back_as_they_were(rng, tmp_path):
    x, y = models.features(rng)
    teacher, student = models.stochastic(softmax=True), models.sequential(softmax=True)
    teacher.layers[0].trainable = False
    student.layers[0].trainable = False
    for model in (teacher, student):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, verbose=0)
    distiller = Distiller(teacher, student)
    distiller.compile(adam(), kd_loss=TemperatureKD(4))
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert [layer.trainable for layer in loaded.teacher.layers] == [False, True, True, True, True]
    assert [layer.trainable for layer in loaded.student.layers] == [False, True]
    same(loaded.teacher.weights, teacher.weights, 0)
    same(loaded.teacher.optimizer.variables, teacher.optimizer.variables, 0)
    same(loaded.student.variables, student.variables, 0)
    loaded.fit(x, y, verbose=0)
    same(loaded.student.layers[0].variables, student.layers[0].variables, 0)


def test_without_compile(rng, tmp_path):
    x, _ = models.features(rng)
    distiller = Distiller(models.sequential(), models.sequential(softmax=True))
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(models.outputs(loaded, x), models.outputs(distiller, x))
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    distiller.save(tmp_path / "b.keras")
    loaded = keras.saving.load_model(tmp_path / "b.keras", compile=False)
    assert not loaded.compiled
    loaded.compile(kd_loss=TemperatureKD(2))


# --- The student's own file.

LOADS_WITHOUT_KERAS_ATS = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "keras_ats":
            raise ImportError("keras_ats is not there")

sys.meta_path.insert(0, Blocker())
import keras, models, numpy as np

folder = sys.argv[1]
x = np.load(folder + "/x.npy")
for name in sys.argv[2:]:
    student = keras.saving.load_model(f"{folder}/{name}.keras")
    np.save(f"{folder}/{name}.npy", student.predict(x, verbose=0))
assert not any(name.startswith("keras_ats") for name in sys.modules)
"""


@on_one_backend("files are Keras's")
def test_students_file_needs_neither_keras_ats_nor_a_teacher(rng, tmp_path):
    x, y = models.features(rng)
    np.save(tmp_path / "x.npy", x)
    teacher = models.sequential(LARGE, name="the_teacher")
    expected = {}
    for build in (softmax_ended, models.subclassed):
        name = build.__name__
        never_distilled = build(name="student")
        student = build(name="student")
        distiller = Distiller(
            teacher, student, student_from_logits=build is models.subclassed or None
        )
        distiller.compile(kd_loss=AsymmetricTemperatureKD(4, 2))
        distiller.fit(x, y, verbose=0)
        distiller.student.save(tmp_path / f"{name}.keras")
        never_distilled.save(tmp_path / "never.keras")
        assert contents(tmp_path / f"{name}.keras") == contents(tmp_path / "never.keras")
        assert b"keras_ats" not in config(tmp_path / f"{name}.keras").replace(
            b"keras_ats_tests", b""
        )
        assert os.path.getsize(tmp_path / f"{name}.keras") < 50_000
        expected[name] = models.outputs(student, x)
    python = [sys.executable, "-W", "error::UserWarning", "-c", LOADS_WITHOUT_KERAS_ATS]
    run = subprocess.run(
        [*python, str(tmp_path), *expected],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for name, predictions in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), predictions, atol=1e-6)


def config(path):
    with zipfile.ZipFile(path) as file:
        return file.read("config.json")


def contents(path):
    """Names and shapes of all that a `.keras` file holds."""
    with zipfile.ZipFile(path) as file, file.open("model.weights.h5") as weights:
        return sorted(file.namelist()), shapes(weights)


def shapes(file):
    found = {}
    with h5py.File(file, "r") as weights:
        weights.visititems(
            lambda name, item: (
                found.update({name: item.shape}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


# --- Weights only.


def test_weights_files_leave_the_teacher_out(rng, tmp_path):
    x, y = models.features(rng)
    distiller = Distiller(models.sequential(LARGE, name="the_teacher"), models.sequential())
    distiller.compile(adam(), kd_loss=AsymmetricTemperatureKD(4, 2))
    distiller.fit(x, y, verbose=0)
    distiller.kd_weight.assign(0.2)
    distiller.kd_loss.correct_temperature.assign(7.0)
    path = tmp_path / "a.weights.h5"
    distiller.save_weights(path)
    assert os.path.getsize(path) < 100_000
    assert not [name for name in shapes(path) if "teacher" in name.lower()]
    assert not [shape for shape in shapes(path).values() if LARGE in shape]
    assert distiller.teacher.name == "the_teacher"

    teacher = models.sequential(LARGE)
    untouched = models.numpy_weights(teacher)
    other = Distiller(teacher, models.sequential())
    other.compile(adam(), kd_loss=AsymmetricTemperatureKD(4, 2))
    other.optimizer.build(other.trainable_variables)
    with pytest.warns(UserWarning, match=r"values win.*kd_weight: 0\.2 instead of 0\.5"):
        other.load_weights(path)
    same(other.student.variables, distiller.student.variables, 0)
    same(other.optimizer.variables, distiller.optimizer.variables, 0)
    assert value(other.kd_weight) == pytest.approx(0.2)
    assert value(other.kd_loss.correct_temperature) == 7.0
    for actual, expected in zip(models.numpy_weights(teacher), untouched, strict=True):
        np.testing.assert_array_equal(actual, expected)


# --- Keras's callbacks.


@pytest.mark.filterwarnings("ignore:ModelCheckpoint.* saves the whole distiller:UserWarning")
def test_the_best_model_is_kept(rng, tmp_path):
    x, y = models.features(rng)
    distiller = Distiller(models.sequential(LARGE), models.sequential(softmax=True))
    distiller.compile(keras.optimizers.SGD(0.5), kd_loss=TemperatureKD(4), metrics=["accuracy"])
    history = distiller.fit(
        x,
        y,
        epochs=3,
        validation_data=(x, y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="val_loss", save_best_only=True
            ),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "{epoch}.weights.h5", save_weights_only=True
            ),
            keras.callbacks.EarlyStopping(monitor="val_loss"),
        ],
        verbose=0,
    ).history
    best = keras.saving.load_model(tmp_path / "best.keras")
    evaluated = best.evaluate(x, y, return_dict=True, verbose=0)
    assert evaluated["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-5)
    distiller.load_weights(tmp_path / "1.weights.h5")
    evaluated = distiller.evaluate(x, y, return_dict=True, verbose=0)
    assert evaluated["loss"] == pytest.approx(history["val_loss"][0], rel=1e-5)
    assert os.path.getsize(tmp_path / "1.weights.h5") < 100_000


class Interrupted(Exception):
    pass


class Schedule(keras.callbacks.Callback):
    """Changes weight and temperature at each epoch, and may end the process."""

    def __init__(self, stop_before=None):
        super().__init__()
        self.stop_before = stop_before

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.stop_before:
            raise Interrupted
        self.model.kd_weight.assign(0.2 + 0.2 * epoch)
        if epoch == 1:  # Stays so afterwards, which a resumed run must know.
            self.model.kd_loss.temperature.assign(2.0)


def test_backup_and_restore(rng, tmp_path):
    x, y = models.features(rng, 20)
    data = {"batch_size": 10, "epochs": 4, "shuffle": False, "verbose": 0}
    teacher, student = models.sequential(16), models.sequential()
    initial = student.get_weights()

    def fresh():
        # As in a new process: same teacher, same initial student.
        new = models.sequential()
        new.set_weights(initial)
        distiller = Distiller(teacher, new)
        distiller.compile(adam(), kd_loss=TemperatureKD(4))
        return distiller

    straight = fresh()
    history = straight.fit(x, y, callbacks=[Schedule()], **data).history
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(Interrupted):
        fresh().fit(x, y, callbacks=[backup, Schedule(stop_before=2)], **data)
    resumed = fresh()
    with pytest.warns(UserWarning, match="That is right if a schedule has changed them"):
        later = resumed.fit(x, y, callbacks=[backup, Schedule()], **data).history
    for name, values in history.items():
        np.testing.assert_allclose(later[name], values[2:], rtol=1e-5, err_msg=name)
    same(resumed.student.variables, straight.student.variables)
    same(resumed.optimizer.variables, straight.optimizer.variables)


@pytest.mark.parametrize("name", ["distiller.h5", "distiller.hdf5"])
def test_the_old_format_is_refused(name, tmp_path):
    distiller = Distiller(models.sequential(), models.sequential(4))
    distiller.compile("sgd", kd_loss=TemperatureKD())
    with pytest.raises(ValueError, match=r"HDF5 format.*Save it as '.keras'"):
        distiller.save(tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
@pytest.mark.skipif(BACKEND == "jax", reason="Keras needs jax2onnx there, which we do not install")
@pytest.mark.parametrize("build", [models.sequential, models.functional])
def test_the_student_can_be_exported_at_once(build, rng, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, y = models.features(rng)
    student = build(4, softmax=True)
    distiller = Distiller(models.sequential(8, softmax=True), student)
    distiller.compile("sgd", kd_loss=TemperatureKD(), run_eagerly=True)
    distiller.fit(x, y, verbose=0)
    expected = models.outputs(student, x)
    for model in (student, distiller):
        model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        (said,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(said, expected, atol=1e-5)
