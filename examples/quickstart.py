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
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_ats import Distiller, losses, ops
from keras_ats.adjustments import Standardize, Swap
from keras_ats.teachers import LiveTeacher

TEACHERS = {"small": (32,), "large": (256, 256, 256)}  # units of the hidden layers
STUDENT = (16,)
BATCH_SIZE = 150
# Temperatures of the correct class and of the wrong ones. One temperature is the case of two equal
# ones, so that the methods differ in nothing else.
GRIDS = {
    "one temperature": [(4.0, 4.0), (6.0, 6.0), (8.0, 8.0)],
    "ATS": [(4.0, 3.0), (6.0, 4.0), (8.0, 6.0)],
}
# The rivals, behind --all-methods: as they come, none of their settings chosen for these data.
RIVALS = {
    "DKD": losses.DecoupledKD,
    "NKD": losses.NormalizedKD,
    "standardised": lambda: losses.TemperatureKD(2.0, adjustment=Standardize()),
    "DIST": losses.DIST,
    "TTM": losses.TransformedTeacherKD,
    "WTTM": lambda: losses.TransformedTeacherKD(weighted=True),
    "CTKD": losses.CurriculumTemperatureKD,
    "RLD": losses.RefinedLogitKD,
    "DTD and LA": lambda: losses.DynamicTemperatureKD(adjustment=Swap()),
    "relations": losses.RelationKD,
    "logit MSE": losses.LogitMSE,
    "label smoothing": losses.LabelSmoothing,
}
EXPLANATION = """
No model has seen the test images. Every seed deals the images out and trains all models anew. The
temperatures are the best of three per row on validation images, averaged over seeds: the 1,050
that the teachers were trained on and the student was not. "One temperature" is
AsymmetricTemperatureKD with two equal ones. The student's own temperature is 1; labels and teacher
weigh 0.5 each, also for rivals, whose settings are their defaults.
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

    def __init__(self, steps: int, rivals: list[str], when_trained: Callable[[], None]) -> None:
        self.steps = steps
        self.when_trained = when_trained
        self.lone_student = build_network(*STUDENT)
        self.teachers = {name: build_network(*units) for name, units in TEACHERS.items()}
        self.distillers = {}
        for network in (self.lone_student, *self.teachers.values()):
            network.compile(loss="sparse_categorical_crossentropy", **training_options(steps))
        for name, teacher in self.teachers.items():
            asymmetric = self.compiled_distiller(teacher, losses.AsymmetricTemperatureKD())
            self.distillers |= {(name, method): asymmetric for method in GRIDS}
            for rival in rivals:
                kd_loss = RIVALS[rival]()
                self.distillers[name, rival] = self.compiled_distiller(teacher, kd_loss)

    def compiled_distiller(self, teacher: keras.Model, kd_loss: losses.KDLoss) -> Distiller:
        """Joins a teacher, a new student and a loss."""
        distiller = Distiller(teacher, build_network(*STUDENT))
        distiller.compile(kd_loss=kd_loss, **training_options(self.steps))
        return distiller

    def train_student(self, lesson: Lesson, split: Split, seed: int) -> keras.Model:
        """Trains a student with its teacher as that is now."""
        if lesson == ALONE:
            return self.train(self.lone_student, split, seed)
        distiller = self.distillers[lesson.teacher, lesson.method]
        if lesson.temperatures:
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
        if isinstance(model, Distiller):
            for variable in model.kd_loss.variables:
                if variable.trainable:  # The learned temperature of CTKD starts anew as well.
                    variable.assign(1.0)
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
    parser.add_argument("--steps", type=int, default=200, help="per training (default: 200)")
    parser.add_argument("--output", type=Path, default=Path("quickstart-output"), metavar="FOLDER")
    parser.add_argument("--all-methods", action="store_true", help="rivals too, as they come")
    options = parser.parse_args()
    if min(options.seeds, options.steps) < 1:
        parser.error("--seeds and --steps must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        rivals = list(RIVALS) if options.all_methods else []
        compare(options.seeds, options.steps, rivals, options.output)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")


def compare(seeds: int, steps: int, rivals: list[str], output: Path) -> None:
    use_one_thread_on_torch()
    test, validation = defaultdict(list), defaultdict(list)  # accuracies, one per seed
    with Progress() as progress:
        others = [Lesson(*pair) for pair in itertools.product(TEACHERS, rivals)]
        total = seeds * (len(TEACHERS) + 1 + len(CANDIDATES) + len(others))
        bar = progress.add_task(f"Training {total} models", total=total)
        school = School(steps, rivals, when_trained=lambda: progress.advance(bar))
        for seed in range(seeds):
            teacher_split, student_split, validation_split, test_split = deal_digits(seed)
            for name, teacher in school.teachers.items():
                school.train(teacher, teacher_split, seed)
                test[name].append(percent_correct(teacher, test_split))
            for lesson in (ALONE, *others, *CANDIDATES):
                student = school.train_student(lesson, student_split, seed)
                validation[lesson].append(percent_correct(student, validation_split))
                test[lesson].append(percent_correct(student, test_split))
    rows = itertools.groupby(CANDIDATES, key=lambda lesson: (lesson.teacher, lesson.method))
    chosen = [max(row, key=lambda lesson: np.mean(validation[lesson])) for _, row in rows]
    report([ALONE, *chosen], others, test)
    # Once more, to keep it: which temperatures are best is known only now.
    student = school.train_student(chosen[-1], student_split, seed)
    student.save(output / "student.keras")
    draw_soft_targets(teacher, student_split, chosen[-2:], output / "soft_targets.png")
    print(f"{output} holds soft_targets.png and the student of the last row, student.keras.")


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
    rate = keras.optimizers.schedules.CosineDecay(0.2, decay_steps=steps)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    # One call of compiled code for all steps; Keras refuses that on torch.
    steps_per_execution = 1 if keras.backend.backend() == "torch" else steps
    return {"optimizer": optimizer, "steps_per_execution": steps_per_execution}


def percent_correct(network: keras.Model, split: Split) -> float:
    images, labels = split
    predictions = network.predict(images, batch_size=len(images), verbose=0)
    return 100 * float(np.mean(predictions.argmax(axis=-1) == labels))


def report(lessons: list[Lesson], others: list[Lesson], accuracy: dict) -> None:
    table = Table(
        *("teacher", "its own", "method", "temperatures", "student"),
        title="Test accuracy, %: mean ± standard deviation over seeds",
    )
    for lesson in [*lessons, *others]:
        own = mean_and_spread(accuracy[lesson.teacher]) if lesson != ALONE else ""
        temperatures = "{:g}, {:g}".format(*lesson.temperatures) if lesson.temperatures else ""
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
    deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return f"{np.mean(values):.1f} ± {deviation:.1f}"


def mean_and_error(values: np.ndarray) -> str:
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):+.1f} ± {error:.1f}"


def draw_soft_targets(teacher: keras.Model, split: Split, lessons: list, path: Path) -> None:
    """Draws what a teacher teaches about three digits, and how far apart its wrong classes lie."""
    images, labels = split
    logits = LiveTeacher(teacher)(images).logits
    (one, _), (correct, wrong) = (lesson.temperatures for lesson in lessons)
    pairs = ((1.0, 1.0), (one, one), (correct, wrong))
    softened = [ops.asymmetric_softmax(logits, labels, *pair) for pair in pairs]
    targets = keras.ops.convert_to_numpy(keras.ops.stack(softened))
    is_wrong = labels[:, None] != np.arange(10)
    spreads = np.stack([target[is_wrong].reshape(-1, 9).std(axis=1) for target in targets])
    # Three digits, each by the image whose wrong classes differ most, its own class still on top.
    telling = spreads[2] * (targets[2].argmax(axis=1) == labels)
    best = {labels[index]: index for index in np.argsort(telling)}

    figure = Figure(figsize=(9, 6), layout="constrained")
    ratio = spreads[2].mean() / spreads[1].mean()
    title = (
        f"ATS sets the teacher's wrong classes {ratio:.1f} times as far apart as one temperature"
    )
    figure.suptitle(title, fontweight="bold")
    figure.supxlabel("class; grey: the correct one, blue: wrong ones, spread: their deviation")
    panels = figure.subplots(3, 4, width_ratios=(0.8, 2, 2, 2))
    ats = f"ATS: {correct:g} if correct, {wrong:g} if wrong"
    headings = ("image", "temperature 1", f"temperature {one:g}", ats)
    for axes, heading in zip(panels[0], headings, strict=True):
        axes.set_title(heading, fontsize=10)
    shown = sorted(best.values(), key=lambda index: -telling[index])[: len(panels)]
    for row, index in zip(panels, shown, strict=True):
        row[0].imshow(images[index].reshape(8, 8), cmap="gray_r")
        row[0].set_axis_off()
        row[1].set_ylabel("probability")
        colors = np.where(is_wrong[index], "#1f5fa8", "#b8b8b8")
        for axes, target, spread in zip(row[1:], targets, spreads, strict=True):
            axes.bar(range(10), target[index], color=colors)
            text = f"spread {spread[index]:.3f}"
            axes.text(0.98, 0.98, text, ha="right", va="top", transform=axes.transAxes)
            axes.set(xticks=range(10), yticks=(0, 0.5, 1), ylim=(0, 1.3))
            axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
