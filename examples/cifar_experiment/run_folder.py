"""A folder that holds all of one run, and from which a stopped run goes on.

config.json     what defines the result, and the versions it was computed with
history.jsonl   one line per finished epoch
backup/         network and optimizer after the last epoch and the one before
model.keras     the trained network
result.json     last-epoch accuracy; written last, so a run that has it is finished
lock            held by the process at work, and free again when it ends, however it ends

Every file is there whole or not at all, and has a checksum.
"""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from typing import IO, Any, Self

import keras
import numpy as np

import keras_ats
from cifar_experiment import records
from keras_ats import files

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs apart.
    fcntl = None  # type: ignore[assignment]


# What a folder has if there is a run in it, beside config.json.
PARTS = ("history.jsonl", "backup", "model.keras", "result.json")


class RunFolder:
    """The folder of a run, to be entered with `with`, which keeps other processes out.

    Args:
        path: The folder; made when it is entered.
        config: What defines the run's result, as JSON values.

    Raises:
        ValueError: When it is entered: if another process is at work there, or it holds a run with
            another configuration, or one that cannot be told.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            _lock(stack.enter_context((self.path / "lock").open("a+")), self.path)
            self._check_config()
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    @property
    def model_file(self) -> Path:
        """Where the trained network is kept."""
        return self.path / "model.keras"

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, else None; raises if its network is not what was saved."""
        file, network = self.path / "result.json", self.model_file
        if not file.exists():
            return None
        remedy = (
            f"Delete {file}: the same command then makes both files again, from the last "
            "checkpoint if that is there."
        )
        result = records.read(file, remedy)
        if not network.exists():
            raise ValueError(f"{network} is missing, though the run is finished. {remedy}")
        if result.get("model_checksum", files.checksum(network)) != files.checksum(network):
            raise ValueError(f"{network} is damaged: it is not what was written there. {remedy}")
        return result

    def backup(self) -> keras_ats.callbacks.Backup:
        """What saves the network after each epoch, and restores it in `fit`."""
        # Kept at the end: a network that is lost is made again from it.
        return keras_ats.callbacks.Backup(self.path / "backup", delete_checkpoint=False)

    def history(self, epochs: int) -> list[dict[str, float]]:
        """The logs of the first `epochs` epochs, for which there is a checkpoint."""
        file = self.path / "history.jsonl"
        lines = file.read_bytes().splitlines() if file.exists() else []
        remedy = f"Bring it back, or delete {self.path} and run the same command from the start."
        if len(lines) < epochs:
            raise ValueError(
                f"{file} is damaged: it has {len(lines)} epochs, but the checkpoint is of "
                f"{epochs}. {remedy}"
            )
        # A last line without its checkpoint is left by a process that was killed in between; with
        # a damaged checkpoint there is a second one.
        if epochs == 0 and len(lines) > 1:
            raise ValueError(f"{self.path / 'backup'} is missing. {remedy}")
        return [
            records.opened(line.decode(errors="replace"), f"{file}, line {number}", remedy)
            for number, line in enumerate(lines[:epochs], start=1)
        ]

    def save_history(self, history: list[dict[str, float]]) -> None:
        """Writes the logs of all epochs."""
        with files.whole_file(self.path / "history.jsonl") as unfinished:
            lines = [json.dumps(records.sealed(epoch)) for epoch in history]
            unfinished.write_text("\n".join(lines) + "\n")

    def finish(self, model: keras.Model, result: dict[str, Any]) -> dict[str, Any]:
        """Keeps the trained network and what it achieved."""
        with files.whole_file(self.model_file) as unfinished:
            model.save(unfinished, overwrite=True)
        result = {**result, "model_checksum": files.checksum(self.model_file)}
        records.write(self.path / "result.json", result)
        return result

    def _check_config(self) -> None:
        file = self.path / "config.json"
        others = [name for name in PARTS if (self.path / name).exists()]
        if file.exists():
            remedy = f"Delete {self.path} to start that run again, or give another with --run."
            _check_same(records.read(file, remedy)["config"], self.config, self.path)
        elif others:
            raise ValueError(
                f"{file} is missing, so nothing tells which run {', '.join(others)} in "
                f"{self.path} belongs to. Bring it back, or give another folder with --run."
            )
        else:
            records.write(file, {"config": self.config, "versions": versions()})


class SaveHistory(keras.callbacks.Callback):
    """Records what every epoch came to; to be given before the backup, which must not be ahead.

    Args:
        folder: Folder of the run.
        history: The epochs that are done.
    """

    def __init__(self, folder: RunFolder, history: list[dict[str, float]]) -> None:
        super().__init__()
        self.folder = folder
        self.history = history
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch's logs."""
        seconds = round(time.monotonic() - self.started, 2)
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append(values | {"seconds": seconds})
        self.folder.save_history(self.history)


def versions() -> dict[str, str]:
    """What the run was computed with."""
    return {
        "keras_ats": keras_ats.__version__,
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {_backend_version()}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _backend_version() -> str:
    name = keras.backend.backend()
    return str(__import__(name).__version__)


def _lock(file: IO[str], path: Path) -> None:
    """Keeps `file` locked while it is open; the system frees it when the process ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise ValueError(
            f"{path} is in use by another process, number {file.read().strip() or 'unknown'}. Wait "
            "until it has finished, or give another folder with --run."
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


def _check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    changed = [
        f"{name}: {before.get(name)!r} before, {now.get(name)!r} now"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ValueError(
            f"{path} holds a run with other options ({'; '.join(changed)}). Give the options of "
            "that run to go on with it, or another folder with --run."
        )
