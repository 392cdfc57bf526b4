"""The teachers: trained once for each data set and seed, and what they said kept in a file."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ats import files
from keras_ats.diagnostics.advice import correct_share, suggestion_for, wrong_spread
from keras_ats.diagnostics.calibration import best_temperature, calibrate
from keras_ats.diagnostics.logits import Said
from keras_ats.diagnostics.softening import soften, wrong_classes
from study.lines import Lines
from study.sentences import Task, network
from study.training import School, accuracy, optimizer, predict, say_again

UNIT_SPREAD, UNIT_SHARE = 1.0, 0.25


class Teachers:
    """What the teachers of a data set and a seed said, by name.

    Attributes:
        said: Logits of the training sentences, then of the validation sentences.
        hidden: The large teacher's last hidden layer, of the training sentences.
        head: Its weights from there to the logits.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
        self.hidden = arrays.pop("hidden").astype("float32")
        self.head = [arrays.pop("kernel"), arrays.pop("bias")]
        self.said = {name: values.astype("float32") for name, values in arrays.items()}


def teachers_of(
    data: str, task: Task, seed: int, config: dict[str, Any], lines: Lines, folder: Path
) -> Teachers:
    """Trains the teachers, or opens what they said; a line for each."""
    path = folder / f"{data}-{seed}.npz"
    runs = {name: run_of(data, name, seed) for name in names(config)}
    if not path.exists():
        arrays, found = _trained(task, seed, config)
        with files.whole_file(path) as unfinished, unfinished.open("wb") as stream:
            np.savez(stream, **arrays)
        for name, run in runs.items():
            if run not in lines:
                labels = task.train[1], task.validation[1]
                lines.add(run, **found[name], **statistics_of(arrays[name], labels, config))
    missing = [name for name, run in runs.items() if run not in lines]
    if missing:
        # Killed between the file and its lines: they are made again, to have their times too.
        path.unlink()
        return teachers_of(data, task, seed, config, lines, folder)
    return Teachers(path)


def names(config: dict[str, Any]) -> list[str]:
    """Names of all teachers: the ladder, the large one stopped early, and the assistant."""
    return [*config["teachers"]["networks"], "early", "assistant"]


def run_of(data: str, name: str, seed: int) -> dict[str, Any]:
    """What tells a teacher from other runs."""
    return {"role": "teacher", "data": data, "teacher": name, "seed": seed}


def _trained(task: Task, seed: int, config: dict[str, Any]) -> tuple[dict[str, Any], dict]:
    plan = config["teachers"]
    sentences = np.concatenate([task.train[0], task.validation[0]])
    arrays: dict[str, Any] = {}
    found: dict[str, Any] = {}

    def keep(name: str, model: keras.Model, started: tuple[float, float]) -> None:
        logits = predict(model, sentences)
        arrays[name] = logits.astype("float16")
        found[name] = {
            "train": accuracy(logits[: len(task.train[1])], task.train[1]),
            "validation": accuracy(logits[len(task.train[1]) :], task.validation[1]),
            "test": accuracy(predict(model, task.test[0]), task.test[1]),
            "parameters": model.count_params(),
            "seconds": round(time.monotonic() - started[0], 2),
            "cpu_seconds": round(time.process_time() - started[1], 2),
        }

    for name, widths in plan["networks"].items():
        started = time.monotonic(), time.process_time()
        model = compiled_teacher(widths, task, seed, config)
        fit = {"batch_size": config["batch_size"], "verbose": 0}
        if name == plan["large"]:
            model.fit(*task.train, epochs=plan["early_epochs"], **fit)
            keep("early", model, started)
        first = plan["early_epochs"] if name == plan["large"] else 0
        model.fit(*task.train, initial_epoch=first, epochs=plan["epochs"], **fit)
        keep(name, model, started)
    # `model` is the large one, the last of the ladder.
    inner = keras.Model(model.input, model.get_layer("hidden").output)
    arrays["hidden"] = predict(inner, task.train[0]).astype("float16")
    arrays["kernel"], arrays["bias"] = model.get_layer("logits").get_weights()

    started = time.monotonic(), time.process_time()
    school = School(
        task,
        "one temperature",
        plan["networks"][plan["assistant"]],
        say_again(task.classes),
        len(task.train[1]),
        plan["epochs"],
        config | {"learning_rate": plan["learning_rate"]},
    )
    said = arrays[plan["large"]][: len(task.train[1])].astype("float32")
    school.run({"pair": [4, 4]}, task.train, said, 1000 + seed, watch=False)
    keep("assistant", school.distiller.student, started)
    return arrays, found


def compiled_teacher(
    widths: list[int], task: Task, seed: int, config: dict[str, Any]
) -> keras.Model:
    """A teacher that is to be trained."""
    keras.utils.set_random_seed(1000 + seed)
    plan = config["teachers"]
    model = network(widths, task.classes, config)
    steps = -(-len(task.train[1]) // config["batch_size"])
    model.compile(
        optimizer(plan["learning_rate"], steps * plan["epochs"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps,
    )
    return model


def statistics_of(
    logits: np.ndarray, labels: tuple[np.ndarray, np.ndarray], config: dict[str, Any]
) -> dict[str, Any]:
    """What of a teacher could tell how well it teaches, on training and on validation data.

    Args:
        logits: Of the training samples, then of the validation samples.
        labels: Theirs.
        config: Of the study.
    """
    size = len(labels[0])
    found = {}
    for split, labels_of_split, rows in (
        ("on_train", labels[0], logits[:size]),
        ("on_validation", labels[1], logits[size:]),
    ):
        said = Said(rows.astype("float32"), labels_of_split.astype("int64"))
        # A thousand samples say a mean to a few percent.
        few = np.random.default_rng(0).permutation(len(said.labels))[:2000]
        said = Said(said.logits[few], said.labels[few])
        suggestion = suggestion_for(said)
        spread = float(wrong_spread(said).mean())
        centred = said.logits - said.logits.mean(axis=-1, keepdims=True)
        found[split] = {
            "suggested": [suggestion.correct_temperature, suggestion.wrong_temperature],
            "unit_spread": list(_pair_for(said, UNIT_SPREAD, UNIT_SHARE)),
            "calibrated": best_temperature(said),
            "wrong_spread": spread,
            "maximum": float(centred.max(axis=-1).mean()),
            "calibration_error": calibrate(said).error,
            "softened": {
                f"{pair[0]:g}, {pair[1]:g}": soften(said, *pair)._asdict()
                for pair in all_pairs(config)
            },
        }
    return found


def all_pairs(config: dict[str, Any]) -> list[tuple[float, float]]:
    """All pairs of temperatures of the grid, one temperature as a pair of equal ones."""
    return [(one, one) for one in config["one_temperature"]] + [
        (correct, wrong) for correct, wrong in config["pairs"]
    ]


def _pair_for(said: Said, spread: float, share: float) -> tuple[float, float]:
    """The pair that brings the wrong logits to a spread, and leaves the label a share."""
    wrong = float(wrong_spread(said).mean()) / spread
    at_wrong = wrong_classes(said, wrong)
    low, high = wrong, 100.0 * wrong
    if correct_share(said, at_wrong, low) <= share:
        return low, wrong
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        if correct_share(said, at_wrong, middle) > share:
            low = middle
        else:
            high = middle
    return (low * high) ** 0.5, wrong
