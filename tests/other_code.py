"""The entries of docs/other_code.md: what other code says, and what `compile` takes for it."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "other_code.md"
# `py`, not `python`: the blocks are run by the tests that know what each must give.
ENTRY = re.compile(
    r"^### (?P<origin>[^\n]+)\n"
    r"|^(?P<text>`[^`\n]+`[^\n]*(?:\n[^\n]+)*)\n\n```py\n(?P<call>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Entry(NamedTuple):
    origin: str
    their_call: str
    our_call: str
    note: str

    def compile(self, distiller_compile, *rooms):
        """Runs our call, with the names of these modules."""
        namespace = {name: value for room in rooms for name, value in vars(room).items()}
        namespace["distiller"] = SimpleNamespace(compile=distiller_compile)
        exec(self.our_call, namespace)


def entries(heading):
    """Those below a heading of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found, origin = [], ""
    for match in ENTRY.finditer(section):
        if match["origin"]:
            origin = match["origin"]
        else:
            theirs, note = re.fullmatch(r"`([^`]+)`(.*)", match["text"], re.DOTALL).groups()
            found.append(Entry(origin, theirs, match["call"], note))
    return found
