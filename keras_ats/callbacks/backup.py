"""A training run that goes on after its process was killed, at any moment."""

import contextlib
import json
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ats import files
from keras_ats._keras import start_at_epoch
from keras_ats.callbacks._fast_forward import FastForward
from keras_ats.callbacks._random_state import random_state, set_random_state
from keras_ats.callbacks._save_freq import as_save_freq
from keras_ats.checks import as_boolean
from keras_ats.types import Config

_GROUP = "keras_ats_backup"  # in the weights file, beside what Keras keeps there
_NAME = re.compile(r"epoch-(\d+)-batch-(\d+)-([0-9a-f]{16})\.weights\.h5")


class _Saved(NamedTuple):
    """A backup, as its name describes it."""

    epoch: int
    batch: int
    checksum: str
    path: Path


class _Content(NamedTuple):
    """What a backup holds beside what Keras saves."""

    record: Config
    seeds: list[np.ndarray]
    metrics: list[np.ndarray]


class Backup(keras.callbacks.Callback):
    """Lets a run that was stopped, however it was stopped, go on when the same script runs again.

    As `keras.callbacks.BackupAndRestore`, for a distiller and any other model, but a process that
    is killed while it saves loses nothing: a file takes its place only when it is whole and on
    disk, and the one before is kept. The place in training and a checksum are part of the file's
    name, so no two files can disagree; a damaged file is noticed and the one before it is taken.

    The resumed run ends at the same weights as one that was never stopped. Weights, optimizer,
    what callbacks changed (`kd_weight`, temperatures), seeds of dropout and the global generators
    of Python, NumPy and torch are saved. It also takes data whose order depends on the epoch alone:
    `shuffle=False`, or `keras_ats.data` with `first_epoch=backup.epoch`.

    Args:
        backup_dir: Folder for the backups, of this run only; made if missing.
        save_freq: `"epoch"` (default) saves after each epoch, an integer after so many batches.
            A run stopped within an epoch reads the batches it has had again, without training.
        delete_checkpoint: Whether to delete the backups when `fit` has finished. Defaults to True.
            With False a finished `fit` is not repeated: it restores the model and trains no more.

    Raises:
        TypeError: If `backup_dir` is no path, or `save_freq` neither `"epoch"` nor an integer.
        ValueError: If `save_freq` is below 1. In `fit`: if the model is not built, the backup is of
            another model or past the last epoch, or no backup is whole.

    Example:

    ```python
    import tempfile

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras_ats.callbacks.Backup(tempfile.mkdtemp() + "/backup")
    model.fit(np.ones((8, 4)), np.ones(8), epochs=3, callbacks=[backup], verbose=0)
    ```
    """

    def __init__(
        self,
        backup_dir: str | Path,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        self.backup_dir = files.local_path(backup_dir, "backup_dir")
        self.save_freq = as_save_freq(save_freq)
        self.delete_checkpoint = as_boolean(delete_checkpoint, "delete_checkpoint")
        # Without this Keras would wait for each batch's logs, which only an integer looks at.
        self.async_safe = self.save_freq == "epoch"
        self._known_damaged: set[Path] = set()
        self._previous: Path | None = None
        self._unfinished: _Content | None = None
        self._fast_forward: FastForward | None = None
        self._epoch = 0
        self._next_save = 0
        self._random_at_epoch_begin: Config | None = None

    @property
    def epoch(self) -> int:
        """Epochs that are done according to the newest whole backup; 0 without any.

        Data that count their epochs start there: `first_epoch=backup.epoch`.
        """
        newest = self._newest()
        return newest.epoch if newest else 0

    def on_train_begin(self, logs: Config | None = None) -> None:
        """Restores the newest whole backup; called by Keras."""
        if not self.model.built:
            raise ValueError(
                f"A backup can only be restored into a built model. Received: '{self.model.name}', "
                "which is not built. Give it an input shape (keras.Input), or call it on a batch."
            )
        self._unfinished = None
        newest = self._newest()
        self._previous = newest.path if newest else None
        if newest is None:
            return
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and (newest.epoch, min(newest.batch, 1)) > (epochs, 0):
            raise ValueError(
                f"The backup in {self.backup_dir} is past the last epoch to train. Received: "
                f"fit(epochs={epochs}), and a backup of {newest.epoch} finished epochs. Give a "
                "larger `epochs` to go on with it, or another `backup_dir` to start anew."
            )
        content = self._load(newest)
        start_at_epoch(self.model, newest.epoch)
        if newest.batch:
            self._unfinished = content
        else:
            set_random_state(content.record["random"])

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Goes on within the epoch if it was stopped there; called by Keras."""
        # Keras has read it by now, and would start the next `fit` there too.
        start_at_epoch(self.model, None)
        self._epoch = epoch
        resumed, self._unfinished = self._unfinished, None
        if resumed is not None:
            record = resumed.record
            self._fast_forward = FastForward(
                self.model,
                record["batch"],
                record["logs"],
                resumed.metrics,
                then=lambda: set_random_state(record["random"]),
            )
            set_random_state(record["random_at_epoch_begin"])
        if self.save_freq != "epoch":
            batch = resumed.record["batch"] if resumed else 0
            self._next_save = batch + int(self.save_freq)
            self._random_at_epoch_begin = random_state()

    def on_train_batch_end(self, batch: int, logs: Config | None = None) -> None:
        """Saves after every `save_freq` batches; called by Keras, which counts from 0."""
        if self.save_freq != "epoch" and batch + 1 >= self._next_save:
            self._next_save = batch + 1 + int(self.save_freq)
            self._save(self._epoch, batch + 1, logs or {})

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        """Saves after the epoch; called by Keras, which counts from 0."""
        passed, self._fast_forward = self._fast_forward, None
        if passed is not None and passed.calls_left:
            passed.stop()
            raise ValueError(
                f"The backup in {self.backup_dir} was made within an epoch that had more batches "
                f"than the data have now: {passed.calls_left} are missing. Give the data of that "
                "run to go on with it, or another `backup_dir` to start anew."
            )
        self._save(epoch + 1, 0, {})

    def on_train_end(self, logs: Config | None = None) -> None:
        """Deletes the backups of a finished run, if asked to; called by Keras."""
        start_at_epoch(self.model, None)
        if self.delete_checkpoint:
            # The newest last: killed here, the run is still a finished one.
            for saved in self._saved():
                saved.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # Not empty: it holds files of others.
                self.backup_dir.rmdir()

    def _saved(self) -> list[_Saved]:
        """All backups, the oldest first."""
        if not self.backup_dir.is_dir():
            return []
        found = ((_NAME.fullmatch(path.name), path) for path in self.backup_dir.iterdir())
        return sorted(
            _Saved(int(match[1]), int(match[2]), match[3], path) for match, path in found if match
        )

    def _newest(self) -> _Saved | None:
        """The newest backup that is whole; warns of newer ones, and raises if all are damaged."""
        saved = self._saved()
        damaged: list[Path] = []
        for candidate in reversed(saved):
            if files.checksum(candidate.path) == candidate.checksum:
                self._warn(damaged, candidate.path)
                return candidate
            damaged.append(candidate.path)
        if damaged:
            raise ValueError(
                f"No backup in {self.backup_dir} is whole. Received: "
                f"{', '.join(path.name for path in damaged)}, changed since written. Delete the "
                "folder to start from the beginning, or bring the files back."
            )
        return None

    def _warn(self, damaged: list[Path], whole: Path) -> None:
        for path in damaged:
            if path not in self._known_damaged:
                self._known_damaged.add(path)
                warnings.warn(
                    f"The backup {path} is damaged: its content has changed since it was written. "
                    f"Going on from the one before it, {whole.name}.",
                    stacklevel=2,
                )

    def _save(self, epoch: int, batch: int, logs: Config) -> None:
        record = {
            "epoch": epoch,
            "batch": batch,
            "logs": {name: float(value) for name, value in logs.items()},
            "model": _description(self.model),
            "random": random_state(),
            "random_at_epoch_begin": self._random_at_epoch_begin if batch else None,
        }
        unfinished = self.backup_dir / "partial.weights.h5"
        with files.naming_the_file(unfinished):
            self.backup_dir.mkdir(parents=True, exist_ok=True)
            try:
                current = self._write(unfinished, record)
            finally:
                unfinished.unlink(missing_ok=True)
        for saved in self._saved():
            if saved.path not in (current, self._previous):
                saved.path.unlink(missing_ok=True)
        self._previous = current

    def _write(self, unfinished: Path, record: Config) -> Path:
        import h5py  # Keras has it, for its weights files; `import keras_ats` needs it not.

        model = self.model
        model.save_weights(unfinished, overwrite=True)

        with h5py.File(unfinished, "a") as file:
            group = file.create_group(_GROUP)
            group["record"] = json.dumps(record)
            _put(group.create_group("seeds"), _seeds(model))
            within_epoch = record["batch"] > 0
            _put(group.create_group("metrics"), model.metrics_variables if within_epoch else [])
        place = f"epoch-{record['epoch']:05d}-batch-{record['batch']:07d}"
        current = self.backup_dir / f"{place}-{files.checksum(unfinished)}.weights.h5"
        files.put_in_place(unfinished, current)
        return current

    def _load(self, saved: _Saved) -> _Content:
        import h5py

        model = self.model
        with h5py.File(saved.path) as file:
            group = file[_GROUP]
            record = json.loads(group["record"].asstr()[()])
            content = _Content(record, _values(group["seeds"]), _values(group["metrics"]))
        optimizer = model.optimizer
        if optimizer is not None and not optimizer.built:
            # Slots must exist before the file's values can be put into them.
            optimizer.build(model.trainable_variables)
        _check_same(record["model"], _description(model), saved.path)
        with warnings.catch_warnings():
            # Values that callbacks had changed are what a resumed run must have.
            warnings.filterwarnings("ignore", message="The file's values win")
            model.load_weights(saved.path)
        for variable, value in zip(_seeds(model), content.seeds, strict=True):
            variable.assign(value)
        return content


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """The state of the model's generators, which Keras leaves out of weights files."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _description(model: keras.Model) -> Config:
    """What two models must have in common for one's state to be the other's."""
    optimizer = model.optimizer
    return {
        "variables": [f"{tuple(each.shape)} {each.dtype}" for each in model.variables],
        "optimizer": type(optimizer).__name__ if optimizer else None,
        "slots": [list(each.shape) for each in optimizer.variables] if optimizer else [],
    }


def _check_same(then: Config, now: Config, path: Path) -> None:
    for part, before in then.items():
        if before != now[part]:
            raise ValueError(
                f"The backup {path} is of another model. Its {part}: {_shortened(before)}. Those "
                f"of the model in `fit`: {_shortened(now[part])}. Build the model of that run to "
                "go on with it, or give another `backup_dir` to start anew."
            )


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _put(group: Any, variables: list[keras.Variable]) -> None:
    for index, variable in enumerate(variables):
        group[str(index)] = keras.ops.convert_to_numpy(variable)


def _values(group: Any) -> list[np.ndarray]:
    return [group[str(index)][()] for index in range(len(group))]
