"""The figures on the pages are those that the benchmarks wrote."""

import json
import re
import statistics
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


FEATURES = [
    json.loads(file.read_text())["ratios"]
    for backend in TITLES.values()
    if (file := ROOT / "benchmarks" / "results" / f"step_features_{backend}.json").exists()
]


@pytest.mark.parametrize("name", FEATURES[0])
def test_page_of_losses_on_inner_layers(name):
    expected = [one[name][key] for one in FEATURES for key in ("of_minima", "median")]
    title = name.removeprefix("ATS + ").removesuffix(" step / ATS step")
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


@pytest.mark.parametrize("shape", ["128x100", "1024x1000", "1024x32000"])
def test_loss_page(shape):
    folder = ROOT / "benchmarks" / "results"
    files = [folder / f"loss_{one}_{shape}.json" for one in TITLES.values()]
    measured = [json.loads(file.read_text()) for file in files if file.exists()]
    for name in measured[0]["times"]:
        expected = []
        for one in measured:
            ratio = one["ratios"].get(f"{name} / floor", {})
            expected += [
                one["times"][name]["min"],
                *(ratio.get(k) for k in ("of_minima", "median")),
            ]
            expected.append(one["peak_mib_beyond_logits"][name])
        expected = [value for value in expected if value is not None]
        assert row("docs/benchmarks.md", f"{shape} {name}") == pytest.approx(expected, abs=0.051)


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


CIFAR = json.loads((ROOT / "benchmarks" / "results" / "cifar10_subset.json").read_text())
CIFAR_PAGE = (ROOT / "docs" / "tutorials" / "cifar_experiment.md").read_text()


def test_cifar_page():
    assert len(CIFAR["runs"]) == sum(found["seeds"] for found in CIFAR["rows"])
    for found in CIFAR["rows"]:
        cells = [found["network"], found["method"], found["temperatures"]]
        cells += [found["teacher"].partition("-")[0], found["accuracy"], found["gain"]]
        line = r"\| *" + r" *\| *".join(map(re.escape, cells)) + r" *\|"
        assert re.search(line, CIFAR_PAGE), cells


def test_differences_on_the_cifar_page():
    """Each compares two rows seed by seed."""
    gains = {
        (found["method"], found["teacher"].partition("-")[0]): found["gains"]
        for found in CIFAR["rows"]
        if found["gains"]
    }
    pairs = {
        "ATS instead of one temperature, from ResNet-14": (("ats", "resnet14"), ("ts", "resnet14")),
        "ATS instead of one temperature, from ResNet-20": (("ats", "resnet20"), ("ts", "resnet20")),
        "ResNet-20 instead of ResNet-14, one temperature": (("ts", "resnet20"), ("ts", "resnet14")),
        "ResNet-20 instead of ResNet-14, ATS": (("ats", "resnet20"), ("ats", "resnet14")),
    }
    for title, (one, other) in pairs.items():
        differences = [a - b for a, b in zip(gains[one], gains[other], strict=True)]
        mean, deviation = statistics.mean(differences), statistics.stdev(differences)
        assert f"| {title} | {mean:+.2f} ± {deviation:.2f} |" in CIFAR_PAGE


@pytest.mark.parametrize("teacher", ["intents", "phrases"])
def test_tables_of_the_largest_logits(teacher):
    page = (ROOT / "docs/guides/cache.md").read_text()
    file = ROOT / "benchmarks" / "results" / f"cache_top_k_{teacher}.json"
    for one in json.loads(file.read_text())["rows"]:
        errors = f"{one['error']:.5f} | {one['error_of_dropping']:.3f}"
        assert f"\n| {one['top_k']} | {errors} | {one['bytes_of_a_row']:,} |" in page
