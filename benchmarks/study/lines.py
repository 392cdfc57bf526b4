"""Runs as lines of JSON: what is there is done, whatever ended the process that wrote it."""

import json
import os
from pathlib import Path
from typing import Any


class Lines:
    """The finished runs of a study, one line each.

    Args:
        path: The file; made with the first line. A line that a killed process left unfinished is
            cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = {key_of(line["run"]): line for line in read(path)}
        if path.exists():
            whole = path.read_bytes().rpartition(b"\n")
            if whole[2]:
                path.write_bytes(whole[0] + whole[1])

    def __contains__(self, run: dict[str, Any]) -> bool:
        return key_of(run) in self.done

    def line_of(self, run: dict[str, Any]) -> dict[str, Any]:
        """The line of a finished run."""
        return self.done[key_of(run)]

    def add(self, run: dict[str, Any], **found: Any) -> dict[str, Any]:
        """Writes what a run came to, and sees that it is on the disk."""
        line = {"run": run, **found}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.done[key_of(run)] = line
        return line


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a file; none if it is not there."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def key_of(run: dict[str, Any]) -> str:
    """What tells a run from others."""
    return json.dumps(run, sort_keys=True)
