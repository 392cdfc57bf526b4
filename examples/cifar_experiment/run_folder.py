"""A folder that holds all of one run, and from which a stopped run goes on.

config.json     what defines the result, and the versions it was computed with
history.jsonl   one line per finished epoch
epoch-0012.weights.h5   network and optimizer after 12 epochs; only the last one is kept
model.keras     the trained network
result.json     last-epoch accuracy; written last, so a run that has it is finished
"""

import hashlib
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_ats


class RunFolder:
    """Opens, or opens again, the folder of a run.

    Args:
        path: The folder; made if it is not there.
        config: What defines the run's result, as JSON values.

    Raises:
        ValueError: If the folder holds a run with another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        file = path / "config.json"
        if file.exists():
            _check_same(json.loads(file.read_text())["config"], config, path)
        else:
            write_json(file, {"config": config, "versions": versions()})

    @property
    def model_file(self) -> Path:
        """Where the trained network is kept."""
        return self.path / "model.keras"

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, else None."""
        file = self.path / "result.json"
        return json.loads(file.read_text()) if file.exists() else None

    def checkpoint(self) -> tuple[int, Path | None]:
        """How many epochs are done, and the file that holds the state after them."""
        found = {
            int(match[1]): file
            for file in self.path.iterdir()
            if (match := re.fullmatch(r"epoch-(\d+)\.weights\.h5", file.name))
        }
        return max(found.items()) if found else (0, None)

    def history(self) -> list[dict[str, float]]:
        """The logs of the epochs that a checkpoint covers."""
        file = self.path / "history.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines[: self.checkpoint()[0]]]

    def save_epoch(self, model: keras.Model, epochs_done: int, logs: dict[str, float]) -> None:
        """Records an epoch so that a kill at any moment leaves this epoch or the one before."""
        # A line without its checkpoint is one that `history` does not read and this drops.
        lines = [json.dumps(line) for line in [*self.history(), logs]]
        replace_file(self.path / "history.jsonl", "\n".join(lines) + "\n")
        partial = self.path / "partial.weights.h5"
        model.save_weights(partial, overwrite=True)
        current = self.path / f"epoch-{epochs_done:04d}.weights.h5"
        os.replace(partial, current)
        for file in self.path.glob("epoch-*.weights.h5"):
            if file != current:
                file.unlink()

    def finish(self, model: keras.Model, result: dict[str, Any]) -> dict[str, Any]:
        """Keeps the trained network and what it achieved."""
        partial = self.path / "partial.keras"
        model.save(partial, overwrite=True)
        os.replace(partial, self.model_file)
        write_json(self.path / "result.json", result)
        return result


class SaveEveryEpoch(keras.callbacks.Callback):
    """Records every epoch in the run's folder.

    Keras's `BackupAndRestore` has no history, and writes its files in place: a kill while it
    writes loses the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves what the epoch came to."""
        seconds = round(time.monotonic() - self.started, 2)
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.folder.save_epoch(self.model, epoch + 1, values | {"seconds": seconds})


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


def fingerprint(file: Path) -> str:
    """A short hash of a file, so that another teacher under the same name is noticed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def write_json(file: Path, content: Any) -> None:
    """Writes a file that is there whole or not at all."""
    replace_file(file, json.dumps(content, indent=2) + "\n")


def replace_file(file: Path, text: str) -> None:
    """Writes a text that is there whole or not at all."""
    partial = file.with_name(f"partial-{file.name}")
    partial.write_text(text)
    os.replace(partial, file)


def _backend_version() -> str:
    name = keras.backend.backend()
    return str(__import__(name).__version__)


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
