"""callbacks.StudentCheckpoint: the student's own file, whole at any moment."""

import os
import subprocess
import sys
import warnings

import keras
import models
import numpy as np
import pytest

from keras_ats import Distiller
from keras_ats.callbacks import StudentCheckpoint
from keras_ats.distiller import hints
from keras_ats.losses import TemperatureKD

BACKEND = keras.backend.backend()
TESTS = os.path.dirname(__file__)
LARGE = 5000  # Width of a teacher whose weights take 0.16 MB.


@pytest.fixture
def data(rng):
    x, y = models.features(rng, 16)
    return {"x": x, "y": y, "validation_data": (x, y), "batch_size": 8, "verbose": 0}


def distiller(student=None, optimizer="sgd"):
    made = Distiller(models.sequential(LARGE), student or models.functional(softmax=True))
    made.compile(optimizer, kd_loss=TemperatureKD(4), metrics=["accuracy"])
    return made


LOADS_WITHOUT_KERAS_ATS = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "keras_ats":
            raise ImportError("keras_ats is not there")

sys.meta_path.insert(0, Blocker())
import keras, numpy as np

student = keras.saving.load_model("student.keras")
np.save("predicted.npy", student.predict(np.load("x.npy"), verbose=0))
assert not any(name.startswith("keras_ats") for name in sys.modules)
"""


def test_the_file_is_a_plain_models(data, tmp_path):
    student = models.functional(softmax=True)
    student.save(tmp_path / "plain.keras")
    distiller(student).fit(callbacks=[StudentCheckpoint(tmp_path / "student.keras")], **data)
    sizes = [(tmp_path / name).stat().st_size for name in ("student.keras", "plain.keras")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    np.save(tmp_path / "x.npy", data["x"])
    subprocess.run([sys.executable, "-c", LOADS_WITHOUT_KERAS_ATS], cwd=tmp_path, check=True)
    predicted = np.load(tmp_path / "predicted.npy")
    np.testing.assert_allclose(predicted, models.outputs(student, data["x"]), atol=1e-6)


def test_the_best_and_every_one(data, tmp_path):
    model, every = distiller(optimizer=keras.optimizers.SGD(0.5)), tmp_path / "every"
    callbacks = [
        StudentCheckpoint(tmp_path / "best.keras", save_best_only=True),
        StudentCheckpoint(
            str(every / "{epoch:02d}-{val_accuracy:.2f}.weights.h5"), save_weights_only=True
        ),
        StudentCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=3),
    ]
    history = model.fit(epochs=3, callbacks=callbacks, **data).history
    best = keras.saving.load_model(tmp_path / "best.keras")
    crossentropy = keras.losses.SparseCategoricalCrossentropy()
    value = crossentropy(data["y"], best.predict(data["x"], verbose=0))
    assert float(keras.ops.convert_to_numpy(value)) == pytest.approx(
        min(history["val_loss"]), rel=1e-5
    )
    names = [f"{i:02d}-{value:.2f}" for i, value in enumerate(history["val_accuracy"], start=1)]
    assert sorted(os.listdir(every)) == [f"{name}.weights.h5" for name in names]
    # Three batches are one and a half epochs.
    assert {"2-1.keras", "3-2.keras"} < set(os.listdir(tmp_path))
    again = models.functional(softmax=True)
    again.load_weights(every / f"{names[-1]}.weights.h5")
    for one, other in zip(again.get_weights(), model.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_is_no_distiller(data, tmp_path):
    model = models.sequential(softmax=True)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(callbacks=[StudentCheckpoint(tmp_path / "a.keras")], **data)
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_what_cannot_be_written_leaves_the_file_before(data, tmp_path, monkeypatch):
    path, model = tmp_path / "a.keras", distiller()
    model.fit(callbacks=[StudentCheckpoint(path)], **data)
    before = path.read_bytes()

    def fails(unfinished, overwrite):
        unfinished.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.student, "save", fails)
    with pytest.raises(OSError, match=r"a\.keras could not be written: No space left"):
        model.fit(callbacks=[StudentCheckpoint(path)], **data)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.keras"]


def test_which_value_is_the_best(tmp_path):
    checkpoint = StudentCheckpoint(tmp_path / "a.keras", save_best_only=True, mode="min")
    checkpoint.set_model(models.functional())
    saved = []
    for epoch, value in enumerate([float("nan"), 2.0, 3.0, float("nan"), 1.0]):
        checkpoint.on_epoch_end(epoch, {"val_loss": value})
        saved.append((tmp_path / "a.keras").exists())
        (tmp_path / "a.keras").unlink(missing_ok=True)
    assert saved == [False, True, False, False, True]
    checkpoint = StudentCheckpoint(
        tmp_path / "a.keras", save_best_only=True, mode="max", initial_value_threshold=0.5
    )
    checkpoint.set_model(models.functional())
    checkpoint.on_epoch_end(0, {"val_loss": 0.4})
    assert not (tmp_path / "a.keras").exists()


def test_errors(tmp_path):
    with pytest.raises(TypeError, match="`filepath` must be a path"):
        StudentCheckpoint(None)
    with pytest.raises(ValueError, match="on this machine"):
        StudentCheckpoint("gs://bucket/a.keras")
    with pytest.raises(ValueError, match=r"\.keras"):
        StudentCheckpoint(tmp_path / "a.txt")


# --- The hint.


@pytest.fixture
def _not_hinted(monkeypatch):
    monkeypatch.setattr(hints, "_hinted", False)


@pytest.mark.usefixtures("_not_hinted")
def test_a_plain_checkpoint_is_hinted_at_once(tmp_path):
    hint = hints.hint_if_plain_checkpoint
    plain = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras")
    with pytest.warns(UserWarning, match=r"a\.keras'\) saves the whole.*StudentCheckpoint"):
        hint([keras.callbacks.EarlyStopping(), plain])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        hint([plain])


@pytest.mark.usefixtures("_not_hinted")
def test_forms_of_callbacks(tmp_path):
    plain = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras")
    for given in (plain, [[plain]], keras.callbacks.CallbackList([plain])):
        hints._hinted = False
        with pytest.warns(UserWarning, match="whole distiller"):
            hints.hint_if_plain_checkpoint(given)
    hints._hinted = False
    weights = keras.callbacks.ModelCheckpoint(tmp_path / "a.weights.h5", save_weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for given in (None, [], [StudentCheckpoint(tmp_path / "a.keras"), weights]):
            hints.hint_if_plain_checkpoint(given)
