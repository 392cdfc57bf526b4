"""Distils a small student on handwritten digits: from labels alone, at one temperature, with ATS.

    KERAS_BACKEND=tensorflow python examples/quickstart.py --seeds 5 --output quickstart-output

The question is the paper's: does a larger teacher teach worse, and do two temperatures help? A
small and a large teacher are trained on 1,050 of scikit-learn's 1,797 digits. A student that is
given 150 of these is trained by itself and by each teacher. Nothing is downloaded.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_ats import Distiller, compare, losses, ops, suggest_temperatures, views
from keras_ats.adjustments import Standardize, Swap

TEACHERS = {"small": (32,), "large": (256, 256, 256)}  # units of the hidden layers
STUDENT = (16,)
BATCH_SIZE = 150
# What is usual. As ATS with two equal ones, so that the methods differ in temperatures alone.
ONE_TEMPERATURE = 4.0
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
No model has seen the test images. No temperature was tried: one temperature is 4, the two of ATS
are what `suggest_temperatures` reads off each teacher's logits, on 147 images that nobody is
trained on. Student and student alone have the same budget. Seeds are those of the students; there
is one teacher of each size and one deal of the images, so other deals differ by more than this.
"""

Split = tuple[np.ndarray, np.ndarray]  # images and labels


class Digits(NamedTuple):
    """Who gets which images."""

    teacher: Split
    student: Split  # 150 of the teacher's
    held_out: Split  # for the temperatures
    test: Split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="repetitions (default: 5)")
    parser.add_argument("--steps", type=int, default=150, help="per training (default: 150)")
    parser.add_argument("--output", type=Path, default=Path("quickstart-output"), metavar="FOLDER")
    parser.add_argument("--all-methods", action="store_true", help="rivals too, as they come")
    options = parser.parse_args()
    if min(options.seeds, options.steps) < 1:
        parser.error("--seeds and --steps must be at least 1")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        run(options.seeds, options.steps, options.all_methods, options.output)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")


def run(seeds: int, steps: int, all_methods: bool, output: Path) -> None:
    use_one_thread_on_torch()
    digits = deal_digits()
    rivals = {name: make() for name, make in RIVALS.items()} if all_methods else {}
    one_temperature, ats = [], []  # accuracies, one per seed, by teacher
    for size, units in TEACHERS.items():
        teacher = train_teacher(units, digits.teacher, steps)
        own = teacher.evaluate(*digits.test, batch_size=BATCH_SIZE, verbose=0, return_dict=True)
        correct, wrong, _ = suggest_temperatures(teacher, digits.held_out, verbose=False)
        kd_loss = losses.AsymmetricTemperatureKD(correct, wrong)
        methods = {
            f"one temperature, {ONE_TEMPERATURE:g}": losses.AsymmetricTemperatureKD(
                ONE_TEMPERATURE, ONE_TEMPERATURE
            ),
            f"ATS, {correct:.1f} and {wrong:.1f}": kd_loss,
        }
        print(f"\nTest accuracy with the {size} teacher, which itself has {own['accuracy']:.4f}")
        result = compare(
            teacher,
            lambda: build_network(*STUDENT),
            repeat(digits.student, steps),
            digits.test,
            methods | rivals,
            batch_size=BATCH_SIZE,
            seeds=range(seeds),
            optimizer=lambda: make_optimizer(steps),
        )
        print(result, flush=True)
        one_temperature.append(100 * np.array(result.values[next(iter(methods))]))
        ats.append(100 * np.array(result.values[list(methods)[1]]))
    print("\nDifference between students of one seed, in points: mean ± standard error")
    (small, large), (small_ats, large_ats) = one_temperature, ats
    print(mean_and_error(large - small), "large instead of small teacher, one temperature")
    print(mean_and_error(small_ats - small), "ATS instead of one temperature, small teacher")
    print(mean_and_error(large_ats - large), "ATS instead of one temperature, large teacher")
    print(EXPLANATION)
    distil_and_save(teacher, kd_loss, digits.student, steps, output / "student.keras")
    draw_soft_targets(teacher, digits.student, (correct, wrong), output / "soft_targets.png")
    print(f"{output} holds soft_targets.png and a student of the large teacher, student.keras.")


def use_one_thread_on_torch() -> None:
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)  # Sharing out work as small as this takes longer than doing it.


def deal_digits() -> Digits:
    """Deals out images for the teachers, of these for the student, held-out ones and the test."""

    def deal(split: Split, size: int) -> tuple[Split, Split]:
        images, images_left, labels, labels_left = train_test_split(
            *split, train_size=size, stratify=split[1], random_state=0
        )
        return (images, labels), (images_left, labels_left)

    images, labels = load_digits(return_X_y=True)
    teacher, rest = deal(((images / 16).astype("float32"), labels.astype("int32")), 1050)
    held_out, test = deal(rest, 147)
    student, _ = deal(teacher, 150)
    return Digits(teacher, student, held_out, test)


def build_network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, activation="relu") for units in hidden_units]
    output = keras.layers.Dense(10, activation="softmax")
    return keras.Sequential([keras.Input((64,)), *hidden, output])


def repeat(split: Split, steps: int) -> Split:
    """All steps as one epoch of full batches: one shape to compile, no pause in between."""
    images, labels = split
    order = np.resize(np.arange(len(labels)), steps * BATCH_SIZE)
    return images[order], labels[order]


def make_optimizer(steps: int) -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.CosineDecay(0.2, decay_steps=steps)
    return keras.optimizers.SGD(rate, momentum=0.9)


def train_teacher(units: tuple[int, ...], split: Split, steps: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    teacher = build_network(*units)
    teacher.compile(
        make_optimizer(steps), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    teacher.fit(*repeat(split, steps), batch_size=BATCH_SIZE, verbose=0)
    return teacher


def distil_and_save(
    teacher: keras.Model, kd_loss: losses.KDLoss, split: Split, steps: int, path: Path
) -> None:
    """Is all that distillation takes; `compare` does the same again and again."""
    student = build_network(*STUDENT)
    distiller = Distiller(teacher, student)
    distiller.compile(make_optimizer(steps), kd_loss=kd_loss)
    distiller.fit(*repeat(split, steps), batch_size=BATCH_SIZE, verbose=0)
    student.save(path)


def mean_and_error(values: np.ndarray) -> str:
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{np.mean(values):+.1f} ± {error:.1f}"


def draw_soft_targets(
    teacher: keras.Model, split: Split, temperatures: tuple[float, float], path: Path
) -> None:
    """Draws what a teacher teaches about three digits, and how far apart its wrong classes lie."""
    images, labels = split
    logits = views.at_logits(teacher)(images)
    correct, wrong = temperatures
    pairs = ((1.0, 1.0), (correct, correct), (correct, wrong))
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
    ats = f"ATS: {correct:.1f} if correct, {wrong:.1f} if wrong"
    headings = ("image", "temperature 1", f"temperature {correct:.1f}", ats)
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
