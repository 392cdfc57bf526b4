"""The page on scaling says what its script computes."""

import importlib.util
import re
from pathlib import Path

import pytest
from backends import on_one_backend

pytestmark = on_one_backend("a page and a script of formulas")

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


@pytest.fixture(scope="module")
def scaling():
    specification = importlib.util.spec_from_file_location(
        "scaling", ROOT / "benchmarks" / "scaling.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(scaling):
    return scaling.PAGE.read_text(encoding="utf-8")


def test_the_tables_are_what_the_script_prints(scaling, page):
    advice = "run `python benchmarks/scaling.py --write`"
    assert scaling.with_tables(page) == page, advice


def test_numbers_between_the_tables_are_those_of_the_script(scaling, page):
    text = re.sub(r"<!-- .*?<!-- end -->", "", page, flags=re.DOTALL)
    # Not numbers of the study: formulas, links, and names of networks and data.
    text = re.sub(r"\$\$.*?\$\$|\$.*?\$|`.*?`|\(.*?\.md\)", "", text, flags=re.DOTALL)
    text = re.sub(r"ResNet-110|VGG-8|CIFAR-100|float32|bfloat16", "", text)
    stated = {
        f"{scaling.TEACHER / 1e9:.0f}",
        f"{scaling.STUDENT / 1e9:.0f}",
        f"{scaling.LAYERS}",
        f"{scaling.WIDTH:,}",
        f"{scaling.VOCABULARY:,}",
    }
    assert set(NUMBER.findall(text)) == stated


def test_networks_are_those_that_the_page_is_about(scaling):
    """As the papers count them; operations by hand for the first convolution of VGG-8 alone."""
    assert scaling.measure("resnet110").weights == 1_736_564
    vgg8 = scaling.measure("vgg8")
    assert vgg8.weights == 3_965_028
    assert vgg8.flops > 2 * 32 * 32 * 64 * 3 * 3 * 3


def test_ring_all_reduce(scaling):
    assert scaling.all_reduce_bytes(100.0, 1) == 0
    assert scaling.all_reduce_bytes(100.0, 2) == 100
    assert scaling.all_reduce_bytes(100.0, 4) == 150
    link = scaling.Link("slow", bytes_per_second=50.0, seconds_of_latency=1.0)
    assert scaling.all_reduce_seconds(100.0, 4, link) == 6 + 3


def test_a_teacher_on_one_device_exchanges_nothing(scaling):
    first = scaling.language_model().splitlines()[2]
    assert first.count("0.0 GB") == 2
    assert len(set(re.findall(r"\d+ ms", first))) == 1
