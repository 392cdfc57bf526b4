"""The gallery shows every figure, as the committed script draws it from the committed data."""

import importlib.util
import json
import re

import numpy as np
import pytest
from backends import on_one_backend
from processes import ROOT

from keras_ats import diagnostics
from keras_ats.recipes import Comparison

FOLDER = ROOT / "docs" / "images" / "gallery"
PAGE = ROOT / "docs" / "gallery.md"


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/figures/gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@on_one_backend("figures are drawn from numbers")
def test_each_picture_shows_what_the_script_draws(gallery):
    kept = json.loads((FOLDER / "drawn.json").read_text(encoding="utf-8"))
    drawn = {name: gallery.drawn(figure) for name, figure in gallery.figures()}
    assert list(drawn) == list(kept), "run docs/figures/gallery.py"
    for name, figure in drawn.items():
        assert figure["words"] == kept[name]["words"], name
        now, then = (np.array(one["numbers"], float) for one in (figure, kept[name]))
        np.testing.assert_allclose(now, then, rtol=0.02, atol=1e-6, err_msg=name)


@on_one_backend("it reads files")
def test_every_figure_stands_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    missing = [
        name
        for name in diagnostics.__all__
        if name.startswith("plot_") and f"diagnostics.{name}(" not in text
    ]
    assert not missing
    shown = re.findall(r"\(images/gallery/(\w+)\.png\)", text)
    assert sorted(shown) == sorted(path.stem for path in FOLDER.glob("*.png"))


@on_one_backend("it reads files")
def test_data_and_pictures_are_small():
    files = [*FOLDER.glob("*.png"), *(ROOT / "docs" / "figures").glob("digits.*")]
    assert sum(path.stat().st_size for path in files) < 600_000


@on_one_backend("it prints numbers")
def test_the_result_at_home_is_that_of_the_data(gallery):
    runs = gallery.results()["students"]["16 units"]["width 384"]
    table = str(Comparison(runs, range(5), "accuracy"))
    assert table in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
