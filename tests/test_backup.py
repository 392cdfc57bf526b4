"""callbacks.Backup: a run that was stopped ends as if it had not been."""

import re
import warnings

import keras
import kill_and_resume
import models
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from processes import ROOT, run_together

from keras_ats import Distiller
from keras_ats.callbacks import Backup
from keras_ats.losses import TemperatureKD

BACKEND = keras.backend.backend()


class Stop(keras.callbacks.Callback):
    """Ends a run, after so many batches of an epoch, or after the epoch."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.epoch, self.batch, self.now = epoch, batch, None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.batch):
            raise InterruptedError

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == (self.epoch, self.batch):
            raise InterruptedError


class Seen(keras.callbacks.Callback):
    """What a callback sees of batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append((batch, logs["loss"]))


def plain(optimizer="adam"):
    """A student by itself, with dropout, whose seed Keras leaves out of weights files."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((models.FEATURES,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def distiller():
    keras.utils.set_random_seed(1)
    made = Distiller(models.sequential(16), models.stochastic())
    made.compile("adam", kd_loss=TemperatureKD(4), metrics=["accuracy"])
    return made


def numpy(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def check_same(model, expected):
    for one, other in zip(numpy(model), numpy(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def data(rng):
    """Five batches; the last one is not full."""
    x, y = models.features(rng, 18)
    # Only torch shuffles arrays with a generator whose state can be read.
    order = {"shuffle": BACKEND == "torch"}
    return {"x": x, "y": y, "batch_size": 4, "epochs": 4, "verbose": 0, **order}


def interrupt(model, backup, data, *where):
    with pytest.raises(InterruptedError):
        model.fit(callbacks=[backup, Stop(*where)], **data)


@cases_in_turn("a student by itself is saved by the same callback")
@pytest.mark.parametrize("build", [plain, distiller])
def test_resumed_after_an_epoch(build, data, tmp_path):
    straight = build()
    history = straight.fit(**data).history
    interrupt(build(), Backup(tmp_path / "b"), data, 1)
    backup = Backup(tmp_path / "b")
    assert backup.epoch == 2
    resumed = build()
    later = resumed.fit(callbacks=[backup], **data).history
    assert {name: values[2:] for name, values in history.items()} == later
    check_same(resumed, straight)
    assert not (tmp_path / "b").exists()
    # Nothing is left of it: the next `fit` trains all of its epochs.
    assert len(resumed.fit(**data).epoch) == 4


@cases_in_turn("a student by itself is saved by the same callback")
@pytest.mark.parametrize("steps_per_execution", [1] if BACKEND == "torch" else [1, 2])
@pytest.mark.parametrize("build", [plain, distiller])
def test_resumed_within_an_epoch(build, steps_per_execution, data, tmp_path):
    def make():
        model = build()
        model.steps_per_execution = steps_per_execution
        return model

    straight = make()
    history = straight.fit(**data).history
    interrupt(make(), Backup(tmp_path, save_freq=2), data, 1, 3)
    backup, seen, resumed = Backup(tmp_path, save_freq=2), Seen(), make()
    assert backup.epoch == 1
    later = resumed.fit(callbacks=[backup, seen], **data).history
    # The metrics of the whole epoch, not of what is left of it.
    assert {name: values[1:] for name, values in history.items()} == later
    check_same(resumed, straight)
    calls = 5 if steps_per_execution == 1 else 3
    assert len(seen.batches) == 3 * calls
    assert not tmp_path.exists()


def test_the_global_generators_go_on(data, tmp_path):
    class Draw(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.drawn = []

        def on_epoch_begin(self, epoch, logs=None):
            self.drawn.append(np.random.random())  # noqa: NPY002

    straight, before, after = Draw(), Draw(), Draw()
    plain().fit(callbacks=[straight], **data)
    with pytest.raises(InterruptedError):
        plain().fit(callbacks=[before, Backup(tmp_path), Stop(1)], **data)
    plain().fit(callbacks=[Backup(tmp_path), after], **data)
    assert before.drawn + after.drawn == straight.drawn


@pytest.mark.skipif(BACKEND == "tensorflow", reason="it reads ahead of the batch it trains on")
def test_data_that_draw_from_a_global_generator(tmp_path):
    fit = {"x": kill_and_resume.Batches(), "epochs": 3, "shuffle": False, "verbose": 0}
    straight, stopped, resumed = (kill_and_resume.build() for _ in range(3))
    keras.utils.set_random_seed(2)
    straight.fit(**fit)
    keras.utils.set_random_seed(2)
    interrupt(stopped, Backup(tmp_path, save_freq=2), fit, 1, 2)
    resumed.fit(callbacks=[Backup(tmp_path, save_freq=2)], **fit)
    check_same(resumed, straight)


# --- Files.


def backups(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_backups_are_kept_and_other_files_left_alone(data, tmp_path):
    (tmp_path / "mine.txt").touch()
    interrupt(plain(), Backup(tmp_path), data, 2)
    names = backups(tmp_path)
    assert [name[:12] for name in names] == ["epoch-00002-", "epoch-00003-", "mine.txt"]
    plain().fit(callbacks=[Backup(tmp_path)], **data)
    assert backups(tmp_path) == ["mine.txt"]


def test_a_finished_run_that_is_kept_is_not_repeated(data, tmp_path):
    finished, again = plain(), plain()
    finished.fit(callbacks=[Backup(tmp_path, delete_checkpoint=False)], **data)
    backup = Backup(tmp_path, delete_checkpoint=False)
    assert again.fit(callbacks=[backup], **data).epoch == []
    check_same(again, finished)
    assert len(again.fit(callbacks=[backup], **{**data, "epochs": 6}).epoch) == 2


def damage(path, how):
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "emptied": b"",
            "truncated": content[:half],
            "one bit": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        }[how]
    )


@pytest.mark.parametrize("how", ["emptied", "truncated", "one bit"])
def test_of_a_damaged_backup_and_the_one_before_it(data, tmp_path, how):
    straight = plain()
    straight.fit(**data)
    interrupt(plain(), Backup(tmp_path), data, 2)
    newest = max(tmp_path.iterdir())
    damage(newest, how)
    backup, resumed = Backup(tmp_path), plain()
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged.*Going on from .*epoch-00002"):
        assert backup.epoch == 2
    with warnings.catch_warnings():  # It is said once.
        warnings.simplefilter("error", UserWarning)
        assert len(resumed.fit(callbacks=[backup], **data).epoch) == 2
    check_same(resumed, straight)


def test_all_damaged(data, tmp_path):
    interrupt(plain(), Backup(tmp_path), data, 2)
    for path in tmp_path.iterdir():
        damage(path, "truncated")
    with pytest.raises(ValueError, match=r"No backup in .* is whole.*Delete the folder"):
        plain().fit(callbacks=[Backup(tmp_path)], **data)


def test_a_full_disk(data, tmp_path, monkeypatch):
    interrupt(plain(), Backup(tmp_path), data, 1)
    before = backups(tmp_path)
    model = plain()

    def save(path, overwrite):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model.save_weights = save
    with pytest.raises(OSError, match=r"could not be written: No space left on device.*has room"):
        model.fit(callbacks=[Backup(tmp_path)], **data)
    assert backups(tmp_path) == before


# --- Refusals.


@pytest.mark.parametrize("save_freq", [1.5, "3", True, None, "batch"])
def test_save_freq_of_another_kind(save_freq, tmp_path):
    with pytest.raises(TypeError, match="`save_freq` must be an integer"):
        Backup(tmp_path, save_freq)


def test_errors(data, tmp_path):
    with pytest.raises(ValueError, match="`save_freq` must be at least 1"):
        Backup(tmp_path, 0)
    with pytest.raises(TypeError, match="`backup_dir` must be a path"):
        Backup(None)
    interrupt(plain(), Backup(tmp_path), data, 2)
    before = backups(tmp_path)
    fit = {"callbacks": [Backup(tmp_path)], **data}
    with pytest.raises(ValueError, match=r"past the last epoch.*epochs=2.* 3 finished"):
        plain().fit(**{**fit, "epochs": 2})
    with pytest.raises(ValueError, match=r"of another model. Its optimizer: Adam.*SGD"):
        plain("sgd").fit(**fit)
    with pytest.raises(ValueError, match=r"of another model. Its variables"):
        distiller().fit(**fit)
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    unbuilt.compile("adam", "mse")
    if BACKEND == "tensorflow":  # The others build a model before callbacks begin.
        with pytest.raises(ValueError, match="not built"):
            unbuilt.fit(**fit)
    assert backups(tmp_path) == before


def test_fewer_batches_than_were_passed_over(data, tmp_path):
    interrupt(plain(), Backup(tmp_path, 4), data, 1, 4)
    fewer = {**data, "x": data["x"][:8], "y": data["y"][:8]}
    with pytest.raises(ValueError, match="more batches than the data have now: 2 are missing"):
        plain().fit(callbacks=[Backup(tmp_path, 4)], **fewer)


# --- Killed.


@on_one_backend("what a kill leaves is files; going on from those is tested on each")
def test_killed_within_a_save():
    # Kills at random moments would make a test that fails at random: the script counts them.
    arguments = ["--random", 0, "--in-save", 2, "--epochs", 8]
    (printed,) = run_together([[ROOT / "tests" / "kill_and_resume.py", *arguments]])
    assert re.findall(r"(\d) kills.*same end", printed) == ["2"]
