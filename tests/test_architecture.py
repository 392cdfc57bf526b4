"""The rooms of the package and the arrows between them, as CONTRIBUTING.md draws them."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "keras_ats"
# Files beside the rooms, which any room may use and which use no room.
FOUNDATIONS = {
    "_gradients",
    "_keras",
    "checks",
    "configurable",
    "files",
    "record",
    "types",
    "version",
}
# What each room may import, besides itself and the foundations.
ARROWS = {
    "ops": set(),
    "temperatures": {"ops"},
    "adjustments": {"ops"},
    "losses": {"ops", "temperatures", "adjustments"},
    "metrics": {"ops", "temperatures"},
    "features": {"ops", "losses", "views"},
    "views": {"ops"},
    "teachers": {"ops", "views", "data"},
    "diagnostics": {"ops", "temperatures", "losses", "views", "teachers"},
    "distiller": {"ops", "losses", "views", "teachers"},
    "callbacks": {"distiller", "metrics"},
    "recipes": {"losses", "teachers", "distiller", "diagnostics"},
    "models": set(),
    "data": set(),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(path: Path) -> set[str]:
    """The package's own modules that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            # `from keras_ats import checks` imports a module, `from ... import KDLoss` a name.
            found |= {
                full if (full := f"{node.module}.{alias.name}") in FILES else node.module
                for alias in node.names
            }
    return {name for name in found if name.split(".")[0] == "keras_ats"}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_is_drawn():
    rooms = {room(module) for module in FILES} - {""} - FOUNDATIONS
    assert rooms == set(ARROWS)


@pytest.mark.parametrize("module", [name for name in FILES if name != "keras_ats"])
def test_imports_go_down_only(module):
    own = room(module)
    allowed = FOUNDATIONS | ({own} | ARROWS[own] if own in ARROWS else set())
    for imported in imported_modules(FILES[module]):
        assert room(imported) in allowed, f"{module} imports {imported}"


def test_no_file_is_in_a_circle():
    # A package's `__init__` only gathers names, so files must not lean on it.
    gathering = {name for name, path in FILES.items() if path.name == "__init__.py"}
    graph = {
        name: imported_modules(path) - {name}
        for name, path in FILES.items()
        if name not in gathering
    }
    graphlib.TopologicalSorter(graph).prepare()
