"""JSON records with a checksum, so that a damaged one is noticed and not believed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from keras_ats import files


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the checksum of its content."""
    return {**record, "checksum": _checksum(record)}


def opened(text: str, where: str, remedy: str) -> dict[str, Any]:
    """The record that `sealed` made, without its checksum.

    Args:
        text: What was written.
        where: The file, and the line if there are several.
        remedy: What to do if it is damaged.

    Raises:
        ValueError: If it is not what was written.
    """
    try:
        record = json.loads(text)
        # Runs of earlier versions have no checksums.
        if record.pop("checksum", None) in (None, _checksum(record)):
            return record
    except (ValueError, AttributeError, TypeError):
        pass  # Not JSON, or no object: no record either.
    raise ValueError(f"{where} is damaged: it is not what was written there. {remedy}")


def write(file: Path, record: dict[str, Any]) -> None:
    """Writes a file that is there whole or not at all."""
    with files.whole_file(file) as unfinished:
        unfinished.write_text(json.dumps(sealed(record), indent=2) + "\n")


def read(file: Path, remedy: str) -> dict[str, Any]:
    """Reads what `write` wrote."""
    try:
        text = file.read_text()
    except UnicodeDecodeError:
        text = ""
    return opened(text, str(file), remedy)


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
