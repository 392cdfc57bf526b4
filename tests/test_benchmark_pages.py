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


def test_pipeline_page():
    measured = json.loads((ROOT / "benchmarks" / "results" / "pipeline.json").read_text())
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    titles = {
        "pipeline alone": "pipeline alone",
        "ResNet-8 from arrays": "student from arrays",
        "ResNet-8 from the pipeline": "student from the pipeline",
    }
    for title, name in titles.items():
        assert f"| {title} | {measured['images_per_second_of'][name]['median']:,} |" in page
    assert f"delivers {measured['ratio']:.1f} times" in page
    assert f"takes {measured['step_ratio']} times" in page


def test_cifar_page():
    runs = json.loads((ROOT / "benchmarks" / "results" / "cifar10_subset.json").read_text())
    page = (ROOT / "docs" / "tutorials" / "cifar_experiment.md").read_text()
    for one in runs:
        config = one["config"]
        pair = ", ".join(f"{value:g}" for value in config.get("temperatures", ()))
        teacher = config.get("teacher", "").partition("-")[0]
        cells = (config["network"], config["method"], pair, teacher)
        cells += (f"{100 * one['result']['test_accuracy']:.2f}",)
        assert re.search(r"\| *" + r" *\| *".join(map(re.escape, cells)) + r" *\|", page), cells
