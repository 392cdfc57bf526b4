"""examples/cifar.py: what can happen to a run's folder is noticed before anything is trained."""

import os
import shutil
import sys

import keras
import models
import numpy as np
import pytest
from processes import ROOT

sys.path.insert(0, str(ROOT / "examples"))

from cifar_experiment import (
    commands,
    options,
    records,
    run_folder,
    training,
)

EPOCHS = 8


def given(finished, folder, **changes):
    """The command that made the run in `finished`, for another folder."""
    chosen = {"teacher": finished.parent / "teacher.keras", "student": "resnet8", "epochs": EPOCHS}
    chosen |= {"run": folder, "data-dir": "nowhere", "learning-rate": 0.05}
    chosen |= changes
    return ["distill", *(part for key, value in chosen.items() for part in (f"--{key}", value))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, of a network that trains in no time."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    network = models.sequential(4)
    network.compile("sgd", "mse")
    network.save(path.parent / "teacher.keras")
    described = commands.student_folder(options.parse([*map(str, given(path, path))], ""))
    with described as folder:
        logs = run_folder.SaveHistory(folder, [])
        x, y = np.ones((2, models.FEATURES)), np.ones((2, models.CLASSES))
        network.fit(x, y, epochs=EPOCHS, callbacks=[logs, folder.backup()], verbose=0)
        folder.finish(network, {"test_accuracy": 0.5, "epochs": EPOCHS, "seconds": 1.0})
    return path


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def altered(file):
    file.write_bytes(file.read_bytes().replace(b"0", b"9", 1))


def unfinished(folder):
    (folder / "result.json").unlink()
    (folder / "model.keras").unlink()


def other_epochs(folder):
    described = records.read(folder / "config.json", "")
    described["config"]["epochs"] = 3
    records.write(folder / "config.json", described)
    unfinished(folder)


def all_backups_truncated(folder):
    unfinished(folder)
    for file in (folder / "backup").iterdir():
        truncated(file)


def one_epoch_less(folder):
    unfinished(folder)
    lines = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    (folder / "history.jsonl").write_text("".join(lines[:-1]))


def third_line_altered(folder):
    unfinished(folder)
    lines = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"loss": ', '"loss": 1')
    (folder / "history.jsonl").write_text("".join(lines))


def backup_deleted(folder):
    unfinished(folder)
    shutil.rmtree(folder / "backup")


def missing_config(folder):
    (folder / "config.json").unlink()
    unfinished(folder)


FAULTS = {
    "config truncated": (lambda run: truncated(run / "config.json"), r"config.json is damaged.*De"),
    "config altered": (lambda run: altered(run / "config.json"), r"config.json is damaged.*Delete"),
    "config emptied": (lambda run: (run / "config.json").write_text(""), "config.json is damaged"),
    "config missing": (missing_config, r"config.json is missing.* backup .*Bring it back, or"),
    "result truncated": (lambda run: truncated(run / "result.json"), r"result.json is damaged.*De"),
    "result altered": (lambda run: altered(run / "result.json"), r"result.json is damaged.*Delete"),
    "network missing": (lambda run: (run / "model.keras").unlink(), r"model.keras is missing.*Del"),
    "network truncated": (lambda run: truncated(run / "model.keras"), "model.keras is damaged.*De"),
    "history truncated": (one_epoch_less, r"history.jsonl .* 7 epochs, but the checkpoint is of 8"),
    "history altered": (third_line_altered, r"history.jsonl, line 3 is damaged.*delete"),
    "checkpoints truncated": (all_backups_truncated, r"No backup in .*backup is whole.*Delete"),
    "checkpoints deleted": (backup_deleted, r"backup is missing\. Bring it back, or delete"),
    "past --epochs": (other_epochs, r"backup is of 8 epochs. Received: --epochs 3. Give at least"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_folder(finished, tmp_path, fault):
    make, message = FAULTS[fault]
    shutil.copytree(finished, tmp_path / "run")
    make(tmp_path / "run")
    epochs = 3 if fault == "past --epochs" else EPOCHS
    check_complaint(message, given(finished, tmp_path / "run", epochs=epochs))


def check_complaint(message, arguments):
    with pytest.raises((ValueError, OSError), match=message) as failure:
        commands.run(options.parse([*map(str, arguments)], ""))
    assert "\n" not in str(failure.value)


def test_a_sound_folder(finished, capsys):
    commands.run(options.parse([*map(str, given(finished, finished))], ""))
    assert "test accuracy 50.00 %" in capsys.readouterr().out


def test_a_foreign_checkpoint_is_not_finished_as_ones_own(finished, tmp_path):
    shutil.copytree(finished / "backup", tmp_path / "backup")
    check_complaint("config.json is missing", given(finished, tmp_path, seed=1))


def test_two_runs_in_one_folder(finished):
    described = records.read(finished / "config.json", "")
    with run_folder.RunFolder(finished, described["config"]):
        check_complaint(
            rf"in use by another process, number {os.getpid()}. Wait.*--run",
            given(finished, finished),
        )
    run_folder.RunFolder(finished, described["config"]).__enter__().__exit__()


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    folder = run_folder.RunFolder(tmp_path / "run", {})
    with pytest.raises(OSError, match=r"config.json could not be written: No space.*has room"):
        folder.__enter__()
    with pytest.raises(OSError, match=r"history.jsonl could not be written: No space"):
        folder.save_history([{"loss": 1.0}])
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(OSError, match=r"model.keras could not be written: No space"):
        folder.finish(network, {})
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["lock"]


@pytest.mark.parametrize("content", [b"", b"PK no network"])
def test_a_damaged_teacher(tmp_path, content):
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"model.keras cannot be read as a Keras.*Bring it back"):
        training.load_network(tmp_path / "model.keras")
