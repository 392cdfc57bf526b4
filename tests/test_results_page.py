"""docs/results.md shows what the committed lines say."""

import sys

import pytest
from backends import on_one_backend
from processes import ROOT

pytestmark = on_one_backend("committed numbers are the same on each")


@pytest.fixture(scope="module")
def study_page():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import study_page
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return study_page


def test_tables_are_those_of_the_lines(study_page):
    page = study_page.PAGE.read_text()
    made = study_page.all_tables(study_page.findings(), study_page.image_findings())
    # A page that is filled again does not change.
    assert study_page.filled(page, made) == page
    assert len(study_page.findings().lines) >= 1200
    readme = study_page.README.read_text()
    line = {"readme": study_page.tables.readme(study_page.findings())}
    assert study_page.filled(readme, line) == readme


def test_a_changed_number_would_be_seen(study_page):
    found = study_page.findings()
    before = study_page.tables.all_tables(found)["methods"]
    for line in found.students:
        if line["run"]["method"] == "KD":
            line["test"] += 0.01
    assert study_page.tables.all_tables(study_page.findings())["methods"] == before
    assert study_page.tables.all_tables(found)["methods"] != before


def test_a_changed_number_of_the_images_would_be_seen(study_page):
    found = study_page.image_findings()
    before = study_page.image_tables.all_tables(found)
    for line in found.alone().values():
        line["test"] += 0.01
    after = study_page.image_tables.all_tables(found)
    assert before["image students"] != after["image students"]
    # Those compare students that have a teacher.
    assert before["image differences"] == after["image differences"]


def test_figures_are_there(study_page):
    page = study_page.PAGE.read_text()
    for name in (*study_page.figures.NAMES, "results_images_curve"):
        image = study_page.IMAGES / f"{name}.png"
        assert f"images/{image.name}" in page
        assert image.read_bytes().startswith(b"\x89PNG")


def test_a_killed_line_is_cut_off(study_page, tmp_path):
    from study.lines import Lines

    path = tmp_path / "lines.jsonl"
    lines = Lines(path)
    lines.add({"seed": 0}, test=0.5)
    with path.open("a") as stream:
        stream.write('{"run": {"seed": 1}, "te')
    again = Lines(path)
    assert {"seed": 0} in again
    assert {"seed": 1} not in again
    again.add({"seed": 1}, test=0.6)
    assert [line["test"] for line in Lines(path).done.values()] == [0.5, 0.6]
