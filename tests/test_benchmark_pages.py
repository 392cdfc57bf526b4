"""The figures on the pages are those that the benchmarks wrote."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TITLES = {"TensorFlow": "tensorflow", "JAX": "jax", "PyTorch": "torch"}


def ratios(backend):
    file = ROOT / "benchmarks" / "results" / f"step_{backend}.json"
    return json.loads(file.read_text())["ratios"]


def row(page, title):
    """The numbers of a table's row."""
    line = re.search(rf"^\| {re.escape(title)} \|(.*)\|$", (ROOT / page).read_text(), re.MULTILINE)
    return [float(number) for number in re.findall(r"\d+\.\d+", line[1])]


@pytest.mark.parametrize("title", ratios("jax"))
def test_step_page(title):
    expected = [
        value
        for backend in TITLES.values()
        for value in (ratios(backend)[title]["of_minima"], ratios(backend)[title]["median"])
    ]
    assert row("docs/benchmarks.md", title) == pytest.approx(expected, abs=0.0051)


@pytest.mark.parametrize("title", TITLES)
def test_readme(title):
    measured = ratios(TITLES[title])
    names = (
        "keras_ats step / floor",
        "keras_ats step / keras.distillation step",
        "keras_ats evaluate / student evaluate",
    )
    expected = [measured[name]["of_minima"] for name in names]
    assert row("README.md", title) == pytest.approx(expected, abs=0.0051)
