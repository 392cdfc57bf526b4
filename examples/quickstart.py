"""Distils a small student on handwritten digits: from labels alone, at one temperature, with ATS.

    KERAS_BACKEND=tensorflow python examples/quickstart.py --seeds 5 --output quickstart-output

The question is the paper's: does a larger teacher teach worse, and do two temperatures help? A
small and a large teacher are trained on 1,200 of scikit-learn's 1,797 digits. A student that is
given 150 of these is trained by itself and by each teacher. Nothing is downloaded.
"""

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_ats import Distiller, ops
from keras_ats.losses import AsymmetricTemperatureKD
from keras_ats.teachers import LiveTeacher

TEACHERS = {"small": (32,), "large": (256, 256, 256)}  # units of the hidden layers
STUDENT = (16,)
BATCH_SIZE = 75
# Temperatures of the correct class and of the wrong ones. One temperature is the case of two equal
# ones, so that the methods differ in nothing else.
GRIDS = {
    "one temperature": [(4.0, 4.0), (6.0, 6.0), (8.0, 8.0)],
    "ATS": [(4.0, 3.0), (6.0, 4.0), (8.0, 6.0)],
}
EXPLANATION = """
No model has seen the test images. Each seed deals the images out and trains
all models anew. Temperatures are the best of three per row on validation
images: of the first seed, the 1,050 that teachers were trained on and students
were not. One temperature is AsymmetricTemperatureKD with two equal ones. The
student's own temperature is 1; labels and teacher have weight 0.5 each.
"""

Split = tuple[np.ndarray, np.ndarray]  # images and labels


class Lesson(NamedTuple):
    """What a student is trained with."""

    teacher: str
    method: str
    temperatures: tuple[float, float] | None = None


ALONE = Lesson("none", "labels alone")
CANDIDATES = [
    Lesson(teacher, method, temperatures)
    for teacher, (method, grid) in itertools.product(TEACHERS, GRIDS.items())
    for temperatures in grid
]


class School:
    """All networks, compiled once and then trained again and again from new weights."""

    def __init__(self, steps: int, when_trained: Callable[[], None]) -> None:
        self.steps = steps
        self.when_trained = when_trained
        self.lone_student = build_network(*STUDENT)
        self.teachers = {name: build_network(*units) for name, units in TEACHERS.items()}
        self.distillers = {}
        for network in (self.lone_student, *self.teachers.values()):
            network.compile(loss="sparse_categorical_crossentropy", **training_options(steps))
        for name, teacher in self.teachers.items():
            distiller = self.distillers[name] = Distiller(teacher, build_network(*STUDENT))
            distiller.compile(kd_loss=AsymmetricTemperatureKD(), **training_options(steps))

    def train_student(self, lesson: Lesson, split: Split, seed: int) -> keras.Model:
        """Trains a student with its teacher as that is now."""
        if lesson == ALONE:
            return self.train(self.lone_student, split, seed)
        distiller = self.distillers[lesson.teacher]
        # Temperatures are variables: what has been compiled stays valid when they change.
        correct_temperature, wrong_temperature = lesson.temperatures
        distiller.kd_loss.correct_temperature.assign(correct_temperature)
        distiller.kd_loss.wrong_temperature.assign(wrong_temperature)
        return self.train(distiller, split, seed)

    def train(self, model: keras.Model, split: Split, seed: int) -> keras.Model:
        """Trains a network, or the student of a distiller, from new weights and returns it."""
        keras.utils.set_random_seed(seed)
        network = model.student if isinstance(model, Distiller) else model
        network.set_weights(keras.models.clone_model(network).get_weights())
        for variable in model.optimizer.variables:
            variable.assign(np.zeros(variable.shape))
        # All steps as one epoch of full batches: one shape to compile, no pause in between.
        images, labels = split
        order = np.resize(np.arange(len(labels)), self.steps * BATCH_SIZE)
        np.random.default_rng(seed).shuffle(order)
        model.fit(images[order], labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0)
        self.when_trained()
        return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--steps", type=int, default=500, help="per training (default: 500)")
    parser.add_argument("--output", type=Path, default=Path("quickstart-output"), metavar="FOLDER")
    options = parser.parse_args()
    if min(options.seeds, options.steps) < 1:
        parser.error("--seeds and --steps must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        compare(options.seeds, options.steps, options.output)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")


def compare(seeds: int, steps: int, output: Path) -> None:
    use_one_thread_on_torch()
    accuracy = defaultdict(list)  # of each teacher and each lesson's student: one value per seed
    with Progress() as progress:
        total = len(CANDIDATES) + seeds * (len(TEACHERS) + 1 + len(TEACHERS) * len(GRIDS))
        bar = progress.add_task(f"Training {total} models", total=total)
        school = School(steps, when_trained=lambda: progress.advance(bar))
        for seed in range(seeds):
            teacher_split, student_split, validation_split, test_split = deal_digits(seed)
            for name, teacher in school.teachers.items():
                school.train(teacher, teacher_split, seed)
                accuracy[name].append(percent_correct(teacher, test_split))
            if seed == 0:
                lessons = choose_lessons(school, student_split, validation_split)
            for lesson in lessons:
                student = school.train_student(lesson, student_split, seed)
                accuracy[lesson].append(percent_correct(student, test_split))
    report(lessons, accuracy)
    student.save(output / "student.keras")
    draw_soft_targets(teacher, student_split, lessons[-2:], output / "soft_targets.png")
    print(f"{output} holds soft_targets.png and the last student, student.keras.")


def use_one_thread_on_torch() -> None:
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)  # Sharing out work as small as this takes longer than doing it.


def deal_digits(seed: int) -> tuple[Split, Split, Split, Split]:
    """Deals out images for the teachers, of these for the student and validation, and the test."""

    def deal(split: Split, size: int) -> tuple[Split, Split]:
        images, images_left, labels, labels_left = train_test_split(
            *split, train_size=size, stratify=split[1], random_state=seed
        )
        return (images, labels), (images_left, labels_left)

    images, labels = load_digits(return_X_y=True)
    teacher, test = deal(((images / 16).astype("float32"), labels.astype("int32")), 1200)
    student, validation = deal(teacher, 150)
    return teacher, student, validation, test


def build_network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, activation="relu") for units in hidden_units]
    output = keras.layers.Dense(10, activation="softmax")
    return keras.Sequential([keras.Input((64,)), *hidden, output])


def training_options(steps: int) -> dict:
    rate = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=steps)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    # One call of compiled code for all steps; Keras refuses that on torch.
    steps_per_execution = 1 if keras.backend.backend() == "torch" else steps
    return {"optimizer": optimizer, "steps_per_execution": steps_per_execution}


def choose_lessons(school: School, student_split: Split, validation_split: Split) -> list[Lesson]:
    """Returns the lessons to compare, with the best temperatures for each teacher and method."""

    def validation_accuracy(lesson: Lesson) -> float:
        student = school.train_student(lesson, student_split, seed=0)
        return percent_correct(student, validation_split)

    rows = itertools.groupby(CANDIDATES, key=lambda lesson: (lesson.teacher, lesson.method))
    return [ALONE, *(max(row, key=validation_accuracy) for _, row in rows)]


def percent_correct(network: keras.Model, split: Split) -> float:
    images, labels = split
    predictions = network.predict(images, batch_size=len(images), verbose=0)
    return 100 * float(np.mean(predictions.argmax(axis=-1) == labels))


def report(lessons: list[Lesson], accuracy: dict) -> None:
    table = Table(
        *("teacher", "its own", "method", "temperatures", "student"),
        title="Test accuracy, %: mean ± standard deviation over seeds",
    )
    for lesson in lessons:
        own = mean_and_spread(accuracy[lesson.teacher]) if lesson != ALONE else ""
        temperatures = "{:g}, {:g}".format(*lesson.temperatures) if lesson != ALONE else ""
        student = mean_and_spread(accuracy[lesson])
        table.add_row(lesson.teacher, own, lesson.method, temperatures, student)
    Console().print(table)
    _, small, small_ats, large, large_ats = (np.array(accuracy[lesson]) for lesson in lessons)
    print("\nDifference between students of one seed, in points: mean ± standard error")
    print(mean_and_error(large - small), "large instead of small teacher, one temperature")
    print(mean_and_error(small_ats - small), "ATS instead of one temperature, small teacher")
    print(mean_and_error(large_ats - large), "ATS instead of one temperature, large teacher")
    print(EXPLANATION)


def mean_and_spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ± {sample_deviation(values):.1f}"


def mean_and_error(values: np.ndarray) -> str:
    return f"{np.mean(values):+.1f} ± {sample_deviation(values) / len(values) ** 0.5:.1f}"


def sample_deviation(values: np.ndarray | list[float]) -> float:
    return np.std(values, ddof=1) if len(values) > 1 else np.nan


def draw_soft_targets(
    teacher: keras.Model, split: Split, lessons: list[Lesson], path: Path
) -> None:
    """Draws what a teacher teaches about three digits, and how far apart its wrong classes lie."""
    images, labels = split
    logits = LiveTeacher(teacher)(images)
    (one, _), (correct, wrong) = (lesson.temperatures for lesson in lessons)
    targets, spreads = {}, {}
    for heading, temperatures in {
        "Temperature 1": (1.0, 1.0),
        f"One temperature, {one:g}": (one, one),
        f"ATS, {correct:g} for the correct class,\n{wrong:g} for the wrong ones": (correct, wrong),
    }.items():
        soft_targets = ops.asymmetric_softmax(logits, labels, *temperatures)
        variance = ops.derived_variance(soft_targets, labels)
        targets[heading] = keras.ops.convert_to_numpy(soft_targets)
        spreads[heading] = keras.ops.convert_to_numpy(variance) ** 0.5
    _, under_one, under_ats = spreads.values()
    # Of each digit the image with the widest spread under ATS, and the first three of these.
    widest = {labels[index]: index for index in np.argsort(under_ats)}
    shown = sorted(widest.values(), key=lambda index: -under_ats[index])[:3]

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    figure.suptitle(
        f"Under ATS the teacher's wrong classes lie {under_ats.mean() / under_one.mean():.1f} "
        "times as far apart as under one temperature",
        fontweight="bold",
    )
    panels = figure.subplots(len(shown), 4, width_ratios=(0.8, 2, 2, 2))
    for row, index in zip(panels, shown, strict=True):
        row[0].imshow(images[index].reshape(8, 8), cmap="gray_r")
        row[0].set_axis_off()
        for axes, heading in zip(row[1:], targets, strict=True):
            draw_bars(axes, targets[heading][index], labels[index], spreads[heading][index])
        row[1].set_ylabel("probability")
    for axes, heading in zip(panels[0], ("Image", *targets), strict=True):
        axes.set_title(heading, fontsize=10)
    for axes in panels[-1, 1:]:
        axes.set_xlabel("class (grey: the correct one)")
    figure.savefig(path, dpi=160)


def draw_bars(axes: Axes, probabilities: np.ndarray, label: int, spread: float) -> None:
    classes = np.arange(len(probabilities))
    axes.bar(classes, probabilities, color=np.where(classes == label, "#b8b8b8", "#1f5fa8"))
    axes.text(0.98, 0.9, f"spread {spread:.3f}", ha="right", va="top", transform=axes.transAxes)
    axes.set(xticks=classes, yticks=(0, 0.5, 1), ylim=(0, 1.05))
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
