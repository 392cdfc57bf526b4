"""What a cache is of: written beside its rows, and compared with what it is used for."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ats.files import put_in_place, whole_file
from keras_ats.teachers.cache.rows import Array
from keras_ats.types import Config
from keras_ats.version import __version__

FORMAT = 1
FILE = "manifest.json"
ARRAYS = ("ids", "fingerprints")

# What makes two caches different; the rest says when and with what it was made.
_IDENTITY = ("format", "teacher", "data", "augmentation", "rows", "layout")
_WORDS = {
    "teacher.weights": "the teacher's weights",
    "teacher.name": "the teacher's name",
    "teacher.reads": "how the teacher's outputs are read",
    "data.ids": "the ids of the samples, or their order",
    "data.fingerprints": "the samples themselves",
    "data.mean": "the mean that features are normalised by",
    "data.std": "the deviation that features are normalised by",
    "augmentation.seed": "the seed of views",
    "augmentation.version": "the version of the augmentation",
}


def manifest(
    teacher: Config, data: Config, augmentation: Config, rows: Config, layout: Config, views: int
) -> Config:
    """Returns the manifest of a cache."""
    return {
        "format": FORMAT,
        "teacher": teacher,
        "data": data,
        "augmentation": augmentation,
        "rows": rows,
        "layout": layout,
        "views": views,
        "made_with": {
            "keras_ats": __version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "backend": keras.backend.backend(),
        },
    }


def identity(of: Config) -> bytes:
    """Returns 32 bytes that tell the cache of a manifest from any other."""
    return hashlib.sha256(_canonical({name: of[name] for name in _IDENTITY})).digest()


def write(folder: Path, of: Config, worker: int) -> None:
    """Writes a manifest; several workers may do so at the same time."""
    sealed = {**of, "seal": hashlib.sha256(_canonical(of)).hexdigest()}
    text = json.dumps(sealed, indent=1) + "\n"
    place(folder / FILE, worker, lambda path: path.write_text(text, encoding="utf-8"))


def read(folder: Path) -> Config:
    """Reads a manifest.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, has been edited or is of another version.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} holds no cache: there is no {FILE}. Expected: a folder that "
            "keras_ats.cache_teacher has written."
        )
    try:
        found: Config = json.loads(path.read_text(encoding="utf-8"))
        seal = found.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}. {_REMEDY}") from error
    if hashlib.sha256(_canonical(found)).hexdigest() != seal:
        raise ValueError(f"{path} was edited after it was written. {_REMEDY}")
    if found["format"] != FORMAT:
        raise ValueError(
            f"{path} is of another version of the format. Received: {found['format']}. Expected: "
            f"{FORMAT}. {_REMEDY}"
        )
    return found


_REMEDY = "Restore it from a copy, or make the cache anew at another path."


def place(path: Path, worker: int, fill: Callable[[Path], Any]) -> None:
    """Writes a file that other workers may be writing too, with the same content."""
    own = path.with_name(f"{worker}-{path.name}")
    with whole_file(own) as unfinished:
        fill(unfinished)
    put_in_place(own, path)


def write_array(folder: Path, name: str, values: Array, worker: int) -> None:
    """Writes an array of numbers, one for each sample."""

    def fill(path: Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)

    place(folder / f"{name}.npy", worker, fill)


def read_array(folder: Path, name: str, of: Config) -> Array:
    """Reads an array that `write_array` wrote, and compares it with the manifest."""
    path = folder / f"{name}.npy"
    try:
        values: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}. {_REMEDY}") from error
    if digest(values) != of["data"][name]:
        raise ValueError(f"{path} was changed after it was written. {_REMEDY}")
    return values


def digest(values: Array) -> str:
    """Returns what tells an array from any other."""
    header = f"{values.dtype.str}{values.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(values).tobytes()).hexdigest()


def differences(found: Config, given: Config, parts: tuple[str, ...] = _IDENTITY) -> list[str]:
    """Says in words where a cache differs from what it is to be used for.

    Args:
        found: The cache's manifest.
        given: The manifest that what was given would have.
        parts: Which parts are compared.
    """
    return [
        f"{_WORDS.get(name, name)} (`{name}`: {_short(ours)} in the cache, {_short(theirs)} given)"
        for name, ours, theirs in _leaves("", _only(found, parts), _only(given, parts))
        if ours != theirs
    ]


def refuse(path: Path, problems: list[str]) -> None:
    """Raises if there are differences."""
    if problems:
        raise ValueError(
            f"The cache at {path} does not match. It differs in {'; '.join(problems)}. Use it with "
            "what it was made of, or make another at another path."
        )


def _only(of: Config, parts: tuple[str, ...]) -> Config:
    return {name: of[name] for name in parts}


def _leaves(prefix: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            path = f"{prefix}.{name}" if prefix else name
            yield from _leaves(path, one.get(name), other.get(name))
    else:
        yield prefix, one, other


def _short(value: Any) -> Any:
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else value


def _canonical(value: Config) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
