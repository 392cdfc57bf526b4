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
from study import words
from study.lines import Lines
from study.sentences import Task, network
from study.training import School, accuracy, optimizer, predict, say_again

UNIT_SPREAD, UNIT_SHARE = 1.0, 0.25
LADDER = "ladder"


class Teachers:
    """What the teachers of a data set and a seed said, by name.

    Each family is trained by itself: when its lines are missing, and when what it said is asked for
    and is in no file.

    Args:
        data: Name of the data set.
        task: The data set.
        seed: Of the weights and the order.
        config: Of the study.
        lines: Where there is to be a line for each teacher.
        folder: Of the files of what was said.
    """

    def __init__(
        self,
        data: str,
        task: Task,
        seed: int,
        config: dict[str, Any],
        lines: Lines,
        folder: Path,
    ) -> None:
        self.data, self.task, self.seed, self.config = data, task, seed, config
        self.lines, self.folder = lines, folder
        self._arrays: dict[str, dict[str, np.ndarray]] = {}
        for family, names in families(config).items():
            if any(run_of(data, name, seed) not in lines for name in names):
                # Killed between the file and its lines: it is made again, to have their times too.
                self._path(family).unlink(missing_ok=True)
                self._open(family)

    def said(self, name: str) -> np.ndarray:
        """A teacher's logits of the training sentences, then of the validation sentences."""
        of = {one: family for family, names in families(self.config).items() for one in names}
        return self._open(of[name])[name]

    @property
    def hidden(self) -> np.ndarray:
        """The large teacher's last hidden layer, of the training sentences."""
        return self._open(LADDER)["hidden"]

    @property
    def head(self) -> list[np.ndarray]:
        """Its weights from there to the logits."""
        arrays = self._open(LADDER)
        return [arrays["kernel"], arrays["bias"]]

    def _path(self, family: str) -> Path:
        return self.folder / f"{self.data}-{self.seed}-{family}.npz"

    def _open(self, family: str) -> dict[str, np.ndarray]:
        if family not in self._arrays:
            path = self._path(family)
            if not path.exists():
                self._train(family, path)
            with np.load(path) as kept:
                self._arrays[family] = {name: kept[name].astype("float32") for name in kept.files}
        return self._arrays[family]

    def _train(self, family: str, path: Path) -> None:
        if family == LADDER:
            arrays, found = _ladder(self.task, self.seed, self.config)
        else:
            arrays, found = _beside(family, self.task, self.seed, self.config)
        with files.whole_file(path) as unfinished, unfinished.open("wb") as stream:
            np.savez(stream, **arrays)
        labels = self.task.train[1], self.task.validation[1]
        for name, of in found.items():
            run = run_of(self.data, name, self.seed)
            if run not in self.lines:
                self.lines.add(run, **of, **statistics_of(arrays[name], labels, self.config))


def families(config: dict[str, Any]) -> dict[str, list[str]]:
    """The teachers that are trained together: of the ladder, and those beside it."""
    ladder = [*config["teachers"]["networks"], "early", "assistant"]
    return {LADDER: ladder, **{name: [name] for name in config["beside_the_ladder"]}}


def run_of(data: str, name: str, seed: int) -> dict[str, Any]:
    """What tells a teacher from other runs."""
    return {"role": "teacher", "data": data, "teacher": name, "seed": seed}


def _ladder(task: Task, seed: int, config: dict[str, Any]) -> tuple[dict[str, Any], dict]:
    """What the ladder, the large one stopped early, and the assistant say, and their lines."""
    plan = config["teachers"]
    arrays: dict[str, Any] = {}
    found: dict[str, Any] = {}

    def keep(name: str, model: keras.Model, started: tuple[float, float]) -> None:
        arrays[name], found[name] = _said(model, task, started)

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


def _beside(
    name: str, task: Task, seed: int, config: dict[str, Any]
) -> tuple[dict[str, Any], dict]:
    """What a transformer says, which reads the words, and its line."""
    started = time.monotonic(), time.process_time()
    plan = config["beside_the_ladder"][name]
    task = words.read(task, plan, config)
    keras.utils.set_random_seed(1000 + seed)
    model = words.transformer(plan, task.classes, config)
    _compile(model, task, plan, config)
    model.fit(*task.train, epochs=plan["epochs"], batch_size=config["batch_size"], verbose=0)
    arrays, found = _said(model, task, started)
    return {name: arrays}, {name: found}


def _said(
    model: keras.Model, task: Task, started: tuple[float, float]
) -> tuple[np.ndarray, dict[str, Any]]:
    """What a teacher says of training and validation sentences, and what is written of it."""
    size = len(task.train[1])
    logits = predict(model, np.concatenate([task.train[0], task.validation[0]]))
    return logits.astype("float16"), {
        "train": accuracy(logits[:size], task.train[1]),
        "validation": accuracy(logits[size:], task.validation[1]),
        "test": accuracy(predict(model, task.test[0]), task.test[1]),
        "parameters": model.count_params(),
        "seconds": round(time.monotonic() - started[0], 2),
        "cpu_seconds": round(time.process_time() - started[1], 2),
    }


def compiled_teacher(
    widths: list[int], task: Task, seed: int, config: dict[str, Any]
) -> keras.Model:
    """A teacher that is to be trained."""
    keras.utils.set_random_seed(1000 + seed)
    model = network(widths, task.classes, config)
    _compile(model, task, config["teachers"], config)
    return model


def _compile(model: keras.Model, task: Task, plan: dict[str, Any], config: dict[str, Any]) -> None:
    steps = -(-len(task.train[1]) // config["batch_size"])
    model.compile(
        optimizer(plan["learning_rate"], steps * plan["epochs"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps,
    )


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
