"""What the documentation says, runs; what is public, is documented."""

import ast
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import conftest  # noqa: F401  # Sets up the devices, also in a process without pytest.
import keras
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from processes import ROOT, run_together

import keras_ats

pytestmark = cases_in_turn("what a block calls has tests on each backend")

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
# TensorFlow mixes up the collectives of two strategies in one process: the second fails if its
# shapes are others, and test_data_batches.py has had one by now.
IN_A_PROCESS_OF_ITS_OWN = ["docs/guides/several_devices.md"]
CODE_BLOCK = re.compile(
    r"^(?P<no_run>[ ]*<!-- no-run: [^\n]+ -->\n\s*)?"
    r"(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(text: str) -> list[tuple[int, str, bool]]:
    """The line, the code, and whether it is to be run, of each Python block."""
    return [
        (
            text[: match.start("code")].count("\n"),
            textwrap.dedent(match["code"]),
            match["no_run"] is None,
        )
        for match in CODE_BLOCK.finditer(text)
    ]


def run_block(code: str, namespace: dict, source: str, line: int) -> None:
    # Blank lines before the code make a traceback name the line of the page.
    exec(compile("\n" * line + code, source, "exec"), namespace)


def run_page(page: Path) -> None:
    """Runs the blocks of a page one after the other, as a reader would."""
    namespace = {"__name__": "__main__"}
    for line, code, is_to_run in code_blocks(page.read_text(encoding="utf-8")):
        if is_to_run:
            run_block(code, namespace, relative(page), line)
        else:
            ast.parse(code, relative(page))


def public_modules() -> list[ModuleType]:
    submodules = [
        importlib.import_module(f"keras_ats.{found.name}")
        for found in pkgutil.iter_modules(keras_ats.__path__)
        if found.ispkg and not found.name.startswith("_")
    ]
    return [keras_ats, *submodules]


def public_objects() -> dict[str, object]:
    """Every exported function, class and constant, once, under its shortest name."""
    names_by_id: dict[int, str] = {}
    objects: dict[str, object] = {}
    for module in public_modules():
        for name in module.__all__:
            member = getattr(module, name)
            is_new = id(member) not in names_by_id
            if is_new and not inspect.ismodule(member) and not name.startswith("__"):
                names_by_id[id(member)] = name
                objects[f"{module.__name__}.{name}"] = member
    return objects


def documented_names() -> list[str]:
    """The names that the API pages show, in order."""
    pages = (page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/api/*.md")))
    return [name for page in pages for name in re.findall(r"^::: (\S+)", page, re.MULTILINE)]


def docstrings() -> dict[str, str]:
    """The docstrings of public modules, objects, and the methods that our classes define."""
    owners: dict[str, object] = {module.__name__: module for module in public_modules()}
    for name, member in public_objects().items():
        owners[name] = member
        if inspect.isclass(member):
            for attribute, value in vars(member).items():
                if not attribute.startswith("_"):
                    owners[f"{name}.{attribute}"] = value
    return {
        name: docstring
        for name, owner in owners.items()
        if (docstring := inspect.getdoc(owner)) and ("```python" in docstring or ">>>" in docstring)
    }


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Examples may save files, and may plot where there is no screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_code_of_a_page_runs(page):
    if relative(page) in IN_A_PROCESS_OF_ITS_OWN:
        run_together([[__file__, page]])
    else:
        run_page(page)


@pytest.mark.parametrize(("name", "docstring"), docstrings().items(), ids=docstrings())
def test_examples_of_a_docstring_run_alone(name, docstring):
    if name.startswith("keras_ats.models.") and keras.backend.backend() == "jax":
        pytest.skip("JAX compiles a draw for each shape; test_models_at_work.py has the networks")
    preset = {"np": np, "keras": keras, "keras_ats": keras_ats}
    for line, code, is_to_run in code_blocks(docstring):
        if is_to_run:
            run_block(code, dict(preset), f"docstring of {name}", line)
    session = doctest.DocTestParser().get_doctest(docstring, dict(preset), name, name, 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session).failed == 0


def test_every_public_object_has_a_place_in_the_api_pages():
    names = documented_names()
    shown = {id(pkgutil.resolve_name(name)) for name in names}
    missing = [name for name, member in public_objects().items() if id(member) not in shown]
    assert not missing, f"add `::: <name>` to a page in docs/api for: {missing}"
    assert len(names) == len(set(names)), f"shown twice: {sorted(names)}"


def test_every_loss_is_on_the_page_of_methods():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    missing = [
        member.__name__
        for member in public_objects().values()
        if inspect.isclass(member)
        and issubclass(member, keras_ats.losses.KDLoss)
        and not re.search(rf"\b{member.__name__}\b", page)
    ]
    assert not missing, f"add rows to the tables of docs/methods.md for: {missing}"


def test_no_file_names_a_package_registry():
    """Where packages come from is pip's configuration, the user's own."""
    hosts = {
        "pypi": ("org", "python.org"),
        "pythonhosted": ("org",),
        "npmjs": ("org", "com"),
        "pytorch": ("org/whl",),
        "anaconda": ("org", "com"),
    }
    # Assembled from pieces, so that this file does not name one either.
    names = [re.escape(f"{name}.{ending}") for name, endings in hosts.items() for ending in endings]
    registry = re.compile("|".join([*names, r"download\." + "pytorch"]))
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout, so there is no list of tracked files")
    naming = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and registry.search(path.read_text(encoding="utf-8", errors="ignore")):
            naming.append(name)
    assert not naming


BROKEN_PAGE = """
# Home

[A page](missing.md), [a heading](#nowhere).

::: broken.function
"""
BROKEN_MODULE = '''
def function(x: int) -> int:
    """Has other arguments.

    Args:
        y: Not one of them.
    """
'''


@on_one_backend("mkdocs needs none")
@pytest.mark.parametrize(
    ("page", "warnings"), [("# Home", 0), (BROKEN_PAGE, 4)], ids=["sound", "broken"]
)
def test_make_docs_fails_on_each_kind_of_warning(tmp_path, page, warnings):
    recipe = subprocess.run(
        # Under `make test` this make is a second one, which would name the folder that it leaves.
        ["make", "--dry-run", "--no-print-directory", "docs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page)
    (tmp_path / "broken.py").write_text(BROKEN_MODULE)
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT}/mkdocs.yml\ndocs_dir: docs\nhooks: []\nnav: [{{Home: index.md}}]\n"
    )
    arguments = recipe.partition("mkdocs ")[2].split()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *arguments, "--site-dir", tmp_path / "site"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == (warnings > 0), done.stderr
    assert done.stderr.count("WARNING") == warnings, done.stderr


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
