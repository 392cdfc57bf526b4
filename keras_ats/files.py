"""Files that are there whole or not at all, whatever ends the process that writes them."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UNFINISHED = "partial-"  # In front, because Keras chooses a format by the ending.


def local_path(value: Any, name: str) -> Path:
    """Returns `value` as a path, or raises if it is none, or not one of this machine."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"`{name}` must be a path, as a string or a pathlib.Path. Received: {name}={value!r} "
            f"of type {type(value).__name__}."
        )
    text = os.fspath(value)
    if not text or "://" in text:
        raise ValueError(
            f"`{name}` must be a path on this machine: only there can a file be replaced as a "
            f"whole. Received: {name}={text!r}. Give a local path and copy the files from there."
        )
    return Path(text)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Lets a file be written beside `path` that takes its place once it is whole.

    A process that is killed meanwhile, a full disk or a power cut leave what was at `path` before.

    Args:
        path: The file to write or replace; its folder is made if missing.

    Yields:
        Where to write, in the same folder and with the same ending.

    Raises:
        OSError: If it cannot be written; names the file and says what to do.
    """
    with naming_the_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(_UNFINISHED + path.name)
        try:
            yield unfinished
            put_in_place(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def put_in_place(unfinished: Path, path: Path) -> None:
    """Renames a written file of the same folder, so that even a power cut leaves it whole."""
    # Content before name: the rename alone may reach the disk first, and name an empty file.
    _synchronise(unfinished, os.O_RDWR)
    unfinished.replace(path)
    if os.name == "posix":  # Elsewhere a folder cannot be opened.
        _synchronise(path.parent, os.O_RDONLY)


@contextlib.contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Raises what fails while `path` is written as one line that names it.

    h5py tells of a full disk over several lines, without the file, and at times as RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else " ".join(str(error).split())
        failure = OSError(
            f"{path} could not be written: {reason}. What it held before is unchanged. See that "
            "the folder can be written to and the disk has room, then run this again."
        )
        failure.errno = number
        raise failure from error


def checksum(path: Path) -> str:
    """Returns 16 digits that tell the content of a file from any other."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _synchronise(path: Path, access: int) -> None:
    descriptor = os.open(path, access)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
