"""Draws the gallery from digits.npz and digits.json, which digits.py has made.

Run: python docs/figures/gallery.py
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

import keras_ats
from keras_ats import diagnostics

FOLDER = Path(__file__).parent
PICTURES = FOLDER.parent / "images" / "gallery"


def said():
    """What teachers and students said of the test images, by name, and the labels."""
    with np.load(FOLDER / "digits.npz") as kept:
        logits = {name: kept[name].astype("float32") for name in kept.files}
    labels, images = (logits.pop(name).astype(int) for name in ("labels", "images"))
    return logits, labels, images.reshape(-1, 8, 8)


def results():
    """What students came to."""
    return json.loads((FOLDER / "digits.json").read_text(encoding="utf-8"))


def means(method):
    """The accuracy of each student under a method, teacher by teacher, by the student's name."""
    return {
        student: [float(np.mean(values[method])) for values in runs.values()]
        for student, runs in results()["students"].items()
    }


def figures():
    """Makes each figure of the gallery, by name."""
    logits, labels, images = said()
    found = results()
    teachers = {name: each for name, each in logits.items() if name in found["parameters"]}
    smallest, *_, largest = teachers
    students = {name: logits[name] for name in ("student of ATS", "student alone")}
    every = keras_ats.diagnose(teachers, labels)
    two = keras_ats.diagnose({name: teachers[name] for name in (smallest, largest)}, labels)
    three = keras_ats.diagnose({largest: teachers[largest], **students}, labels)
    one, ats = means("one temperature"), means("ATS")
    gains = 100 * np.subtract(one["16 units"], means("student alone")["16 units"])

    yield "soft_targets", diagnostics.plot_soft_targets(two, teacher=largest, images=images)
    yield (
        "student_gain",
        diagnostics.plot_student_gain(
            every, dict(zip(teachers, gains, strict=True)), "gain at temperature 4, points"
        ),
    )
    yield "logits", diagnostics.plot_logits(every)
    yield "temperature_curves", diagnostics.plot_temperature_curves(two)
    capacities = [count / 1000 for count in found["parameters"].values()]
    yield "capacity", diagnostics.plot_capacity(capacities, one, ats, "accuracy of the student")
    mapped = {(correct, wrong): np.mean(values) for correct, wrong, *values in found["map"]}
    yield "temperature_map", diagnostics.plot_temperature_map(mapped)
    yield "reliability", diagnostics.plot_reliability(two)
    yield "class_similarity", diagnostics.plot_class_similarity(three)


def drawn(figure):
    """The words and numbers of a figure: what it must show again wherever it is drawn."""
    words, numbers = [], []
    for axes in figure.get_axes():
        words += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        words += [text.get_text() for text in axes.texts]
        numbers += [patch.get_height() for patch in axes.patches]
        numbers += [value for line in axes.lines for value in line.get_xydata().flat]
        numbers += [value for image in axes.images for value in np.ravel(image.get_array())]
    # JSON has no NaN, and three digits are what a reader sees.
    plain = [None if not np.isfinite(value) else float(f"{value:.3g}") for value in numbers]
    return {"words": [word for word in words if word], "numbers": plain}


def save(figure, path):
    """Writes a picture in few colours, which takes a third of the room."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    picture = Image.open(stream).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    shown = {}
    for name, figure in figures():
        shown[name] = drawn(figure)
        save(figure, PICTURES / f"{name}.png")
    (PICTURES / "drawn.json").write_text(json.dumps(shown) + "\n", encoding="utf-8")
