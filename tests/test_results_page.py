"""docs/results.md shows what the committed lines say."""

import json
import runpy
import signal
import sys
import time

import keras
import numpy as np
import pytest
from backends import on_one_backend
from processes import ROOT, started
from test_data_intents import write_banking77

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


def test_the_transformer_sees_order_and_no_padding(study_page):
    from study import words

    plan = {"words": 8, "width": 4, "heads": 2, "blocks": 2, "dropout": 0.1}
    model = words.transformer(plan, 3, {"longest": 5})
    places = {"hello": 2, "there": 3}
    sentences = ["Hello there new", "there hello new", "there hello new word and more"]
    ids = words.ids(sentences, places, 5)
    assert ids.tolist() == [[2, 3, 1, 0, 0], [3, 2, 1, 0, 0], [3, 2, 1, 1, 1]]
    before = model.predict(ids, verbose=0)
    # Words and places are layers of the model, so both are trained.
    tables = [layer for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    assert [table.input_dim for table in tables] == [10, 6]
    for table in tables:
        (values,) = table.get_weights()
        values[0] += 100.0
        table.set_weights([values])
    np.testing.assert_allclose(model.predict(ids, verbose=0), before, atol=1e-6)
    assert np.abs(np.diff(before, axis=0)).max(axis=1).min() > 1e-4


TINY = {
    "data": {"banking77": {"few": 1, "validation_fraction": 0.1}},
    "ngrams": 32,
    "longest": 4,
    "batch_size": 10_000,  # one batch: torch takes one at a time
    "learning_rate": 0.3,
    "epochs": {"few": 2, "full": 1},
    "students": {"2": [2], "3": [3]},
    "teachers": {
        "networks": {"2": [2], "3": [3]},
        "epochs": 2,
        "learning_rate": 0.3,
        "early_epochs": 1,
        "large": "3",
        "assistant": "2",
    },
    "beside_the_ladder": {
        "transformer": {
            "words": 8,
            "width": 4,
            "heads": 2,
            "blocks": 1,
            "dropout": 0.1,
            "epochs": 2,
            "learning_rate": 0.3,
        }
    },
    "one_temperature": [4],
    "pairs": [[4, 2]],
    "rivals": {"label smoothing": [], "NormKD": [], "hint": [{"kd_weight": 1}]},
    "elsewhere": [[4, 4]],
    "seeds": [0],
}


def test_a_killed_study_goes_on_to_the_same_lines(tmp_path, monkeypatch, capsys):
    # The words tell something of the intent.
    write_banking77(tmp_path, lambda split, i: f"word{i % 77 // 5} {i % 77 % 5}")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    script = ROOT / "benchmarks" / "run_study.py"
    monkeypatch.syspath_prepend(script.parent)

    def arguments(name):
        command = [script, "--data-dir", tmp_path, "--config", tmp_path / "config.json"]
        return [*command, "--lines", tmp_path / f"{name}.jsonl", "--folder", tmp_path / name]

    def lines_of(name):
        monkeypatch.setattr(sys, "argv", [*map(str, arguments(name))])
        runpy.run_path(str(script), run_name="__main__")
        lines = map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())
        times = ("seconds", "cpu_seconds")
        return [
            {name: value for name, value in line.items() if name not in times} for line in lines
        ]

    killed = tmp_path / "killed.jsonl"
    with started(arguments("killed")) as process:
        # The teachers, and two students.
        while process.is_alive() and not (killed.exists() and killed.read_text().count("\n") > 6):
            time.sleep(0.01)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    done = killed.read_text().splitlines()
    resumed, whole = lines_of("killed"), lines_of("whole")
    assert 7 <= len(done) < len(whole)
    assert killed.read_text().splitlines()[: len(done)] == done
    assert resumed == whole
    assert len({line["train"] for line in whole}) > 5  # What was learned is compared, not chance.
