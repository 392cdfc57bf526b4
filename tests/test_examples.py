"""The examples run as they stand, in a process and a folder of their own."""

import re

import keras
import numpy as np
from backends import on_one_backend
from processes import ROOT, run_together

EXAMPLES = ROOT / "examples"


def run(name, *arguments, folder):
    command = [EXAMPLES / name, *arguments]
    (printed,) = run_together([command], folder=folder, COLUMNS="200")
    return printed


def digits_predicted_by(path):
    student = keras.saving.load_model(path)
    return student.predict(np.zeros((2, 64), "float32"), verbose=0)


def test_quickstart(tmp_path):
    printed = run("quickstart.py", "--seeds", 2, "--steps", 20, folder=tmp_path)
    table = r"^(student alone|one temperature, 4|ATS, \d+\.\d and \d+\.\d) +0\.\d{4}  0\.\d{4}"
    rows = [row.partition(",")[0] for row in re.findall(table, printed, re.MULTILINE)]
    assert rows == 2 * ["student alone", "one temperature", "ATS"]
    assert len(re.findall(r"^[+-]\d+\.\d ± \d+\.\d .* instead of", printed, re.MULTILINE)) == 3
    output = tmp_path / "quickstart-output"
    np.testing.assert_allclose(digits_predicted_by(output / "student.keras").sum(axis=-1), 1, 1e-5)
    assert (output / "soft_targets.png").read_bytes().startswith(b"\x89PNG")
    assert (output / "soft_targets.png").stat().st_size > 20_000


@on_one_backend("what it prints; the losses have tests of their own on each")
def test_quickstart_with_the_rivals(tmp_path):
    printed = run("quickstart.py", "--seeds", 1, "--steps", 2, "--all-methods", folder=tmp_path)
    for method in ("DKD", "DIST", "CTKD", "WTTM", "label smoothing"):
        # Of each teacher, beside the student alone.
        assert len(re.findall(rf"^{method} +0\.\d{{4}} +one seed", printed, re.MULTILINE)) == 2


@on_one_backend("what it prints; the quickstart runs on each")
def test_existing_project(tmp_path):
    printed = run("existing_project.py", folder=tmp_path)
    accuracy = float(re.search(r"Test accuracy of the student: (\d+\.\d) %", printed)[1])
    assert accuracy > 70
    assert re.search(r"Without the teacher: \d+\.\d %", printed)
    assert "val_student_loss" in printed
    np.testing.assert_allclose(
        digits_predicted_by(tmp_path / "student.keras").sum(axis=-1), 1, 1e-5
    )


def test_few_lines_of_the_existing_project_change():
    lines = (EXAMPLES / "existing_project.py").read_text().splitlines()
    changed = [line for line in lines if "# CHANGED: " in line]
    assert 0 < len(changed) <= 5
    # Marked is marked: nothing else in the script knows of this package.
    assert all(
        "keras_ats" not in line for line in set(lines) - set(changed) if "CHANGED" not in line
    )
