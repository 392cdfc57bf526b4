"""What the documentation says, runs; what is public, is documented."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

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
# What only TensorFlow can do: run there, whatever the turn, and nowhere else.
FOR_TENSORFLOW = ["docs/recipes/microcontroller.md"]
# A block of text that follows one of code is what that printed.
CODE_BLOCK = re.compile(
    r"^(?P<no_run>[ ]*<!-- no-run: [^\n]+ -->\n\s*)?"
    r"(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\n(?P=indent)```text\n(?P<printed>.*?)^(?P=indent)```\n)?",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"[-+]?\b\d+\.?\d*(e[-+]\d+)?")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


class Block(NamedTuple):
    """A Python block of a page."""

    line: int
    code: str
    is_to_run: bool
    printed: str | None  # what the page says that it prints


def code_blocks(text: str) -> list[Block]:
    return [
        Block(
            text[: match.start("code")].count("\n"),
            textwrap.dedent(match["code"]),
            match["no_run"] is None,
            match["printed"],
        )
        for match in CODE_BLOCK.finditer(text.rstrip("\n") + "\n")
    ]


def run_block(block: Block, namespace: dict, source: str) -> str:
    """Runs a block and returns what it printed."""
    # Blank lines before the code make a traceback name the line of the page.
    code = compile("\n" * block.line + block.code, source, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


def without_numbers(text: str) -> str:
    """What is the same on each backend and machine."""
    return " ".join(NUMBER.sub("#", re.sub("-{3,}", "", text)).split())


def run_page(page: Path, is_printed_compared: bool = True) -> list[str]:
    """Runs the blocks of a page one after the other, as a reader would; returns what they print."""
    namespace = {"__name__": "__main__"}
    outputs = []
    for block in code_blocks(page.read_text(encoding="utf-8")):
        if not block.is_to_run:
            ast.parse(block.code, relative(page))
            continue
        outputs.append(run_block(block, namespace, relative(page)))
        if is_printed_compared and block.printed is not None:
            where = f"{relative(page)}, line {block.line}"
            assert without_numbers(outputs[-1]) == without_numbers(block.printed), where
    return outputs


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
    elif relative(page) in FOR_TENSORFLOW:
        pytest.skip("has a test of its own")
    else:
        run_page(page)


@pytest.mark.parametrize("page", FOR_TENSORFLOW)
def test_code_of_a_page_for_tensorflow_runs(page):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras exports int8 LiteRT from TensorFlow")
    run_page(ROOT / page)


def test_what_a_page_prints_is_compared():
    page = "```python\nprint(0.5)\n```\n\n```text\n0.75\n```\n"
    (block,) = code_blocks(page)
    assert without_numbers(run_block(block, {}, "page")) == without_numbers(block.printed)
    (other,) = code_blocks(page.replace("0.75", "half"))
    assert without_numbers(run_block(other, {}, "page")) != without_numbers(other.printed)


@pytest.mark.parametrize(("name", "docstring"), docstrings().items(), ids=docstrings())
def test_examples_of_a_docstring_run_alone(name, docstring):
    if name.startswith("keras_ats.models.") and keras.backend.backend() == "jax":
        pytest.skip("JAX compiles a draw for each shape; test_models_at_work.py has the networks")
    preset = {"np": np, "keras": keras, "keras_ats": keras_ats}
    for block in code_blocks(docstring):
        if block.is_to_run:
            run_block(block, dict(preset), f"docstring of {name}")
    session = doctest.DocTestParser().get_doctest(docstring, dict(preset), name, name, 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session).failed == 0


def methods_outside_of_a_class(text: str) -> list[str]:
    """Names of functions in the blocks of a text that take a `self` and stand in no class."""
    return [
        node.name
        for block in code_blocks(text)
        for node in ast.parse(block.code).body
        if isinstance(node, ast.FunctionDef) and "self" in {each.arg for each in node.args.args}
    ]


def test_a_method_in_an_example_stands_in_its_class():
    # One that lost its indentation runs without an error, and changes nothing.
    texts = [*(page.read_text(encoding="utf-8") for page in PAGES), *docstrings().values()]
    assert [name for text in texts for name in methods_outside_of_a_class(text)] == []
    lost = "```python\nclass Mine:\n    'Its own.'\n\ndef call(self):\n    return 1\n```\n"
    assert methods_outside_of_a_class(lost) == ["call"]


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


def write_what_is_printed(page: Path) -> None:
    """Runs a page and writes what its blocks print under those that have a block of text."""
    outputs = iter(run_page(page, is_printed_compared=False))

    def renewed(match: re.Match) -> str:
        printed = next(outputs) if match["no_run"] is None else ""
        if match["printed"] is None:
            return match[0]
        block = match[0][: match.start("printed") - match.start()]
        return block + textwrap.indent(printed, match["indent"]) + match["indent"] + "```\n"

    text = page.read_text(encoding="utf-8")
    page.write_text(CODE_BLOCK.sub(renewed, text), encoding="utf-8")


if __name__ == "__main__":
    *options, name = sys.argv[1:]
    (write_what_is_printed if options == ["--write"] else run_page)(Path(name).resolve())
