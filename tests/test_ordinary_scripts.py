"""Scripts as people have them: five changed lines, and the student learns from a teacher too."""

import difflib
import re

import keras
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from processes import ROOT

pytestmark = cases_in_turn("each script is another use of the same steps")

SCRIPTS = ROOT / "tests" / "scripts"
NAMES = ("fraud", "tags", "segmentation", "faces", "two_sources")


def source(name):
    return (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")


def run(name):
    """Runs a script in the working folder; returns what it has defined."""
    keras.utils.set_random_seed(0)
    namespace = {}
    exec(compile(source(name), name, "exec"), namespace)
    return namespace


def teacher_of_two_sources():
    """A teacher that is shown a table beside the picture."""
    image, table = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="table")
    seen = layers.Concatenate()([layers.Flatten()(image), table])
    return keras.Model({"image": image, "table": table}, layers.Dense(3, "softmax")(seen))


@pytest.mark.parametrize("name", NAMES)
def test_at_most_five_lines_change(name):
    changes = list(
        difflib.unified_diff(
            source(name).splitlines(), source(f"{name}_distilled").splitlines(), n=0, lineterm=""
        )
    )[2:]
    added = [line for line in changes if re.match(r"\+\s*\S", line)]
    removed = [line for line in changes if line.startswith("-")]
    assert len(added) <= 5, "\n".join(changes)
    # The others stand where something else stood: what is new is the teacher, not the script.
    assert all("model." in line for line in removed)


@pytest.mark.parametrize("name", NAMES)
def test_the_student_learns_from_the_teacher_too(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = run(name)
    plain_logs = set(plain["model"].history.history)
    teacher = teacher_of_two_sources() if name == "two_sources" else plain["build"](16)
    teacher.save("teacher.keras")
    distilled = run(f"{name}_distilled")

    logs = distilled["distiller"].history.history
    assert set(logs) >= plain_logs | {"student_loss", "kd_loss"}
    assert all(np.isfinite(values).all() for values in logs.values())
    saved = keras.saving.load_model("model.keras")
    inputs = distilled["image" if name == "two_sources" else "x"]
    said, others = (keras.tree.flatten(model(inputs)) for model in (saved, plain["model"]))
    assert len(said) == len(others)
    for one, other in zip(said, others, strict=True):
        assert one.shape == other.shape
        assert np.abs(keras.ops.convert_to_numpy(one - other)).max() > 0
