"""Runs the study of docs/results.md on sentences, one line for each run.

    KERAS_BACKEND=jax python benchmarks/run_study.py --data-dir FOLDER-OF-INTENTS

What is in the file of lines is done: killed at any moment, the same command goes on. Seeds come one
after the other, each with all data sets and methods, so that what is there at any time is balanced.
"""

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
from study import sentences, teaching
from study.lines import Lines
from study.plan import students
from study.training import School, say_again, say_on

import keras_ats

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--config", type=Path, default=ROOT / "benchmarks/study/intents.json")
    parser.add_argument("--lines", type=Path, default=ROOT / "benchmarks/results/study.jsonl")
    parser.add_argument("--folder", type=Path, default=ROOT / "study-teachers", help="of teachers")
    parser.add_argument("--until", help="time of day, such as 05:05, after which no run is begun")
    options = parser.parse_args()
    config = json.loads(options.config.read_text())
    study = Study(config, options.data_dir, Lines(options.lines), options.folder)
    for seed in config["seeds"]:
        for data in config["data"]:
            if not study.run(data, seed, options.until):
                print("Time is up. The same command goes on.")
                return


class Study:
    """All that is compiled and read, kept from one seed to the next."""

    def __init__(self, config: dict[str, Any], data_dir: Path, lines: Lines, folder: Path) -> None:
        self.config, self.lines, self.folder = config, lines, folder
        self.tasks = {name: sentences.load(name, data_dir, config) for name in config["data"]}
        self.schools: dict[tuple[Any, ...], School] = {}

    def run(self, data: str, seed: int, until: str | None) -> bool:
        """Trains what is missing of a data set and a seed; whether it came to the end."""
        task, versions = self.tasks[data], versions_of()
        teachers = teaching.Teachers(data, task, seed, self.config, self.lines, self.folder)
        runs = list(students(data, seed, self.config, self.lines))
        for number, run in enumerate(runs, start=1):
            if run in self.lines:
                continue
            if until and f"{datetime.datetime.now():%H:%M}" >= until:
                return False
            found = self.train(run, teachers, task)
            self.lines.add(run, **found, versions=versions)
            name = f"{run['size']} {run['student']} {run['method']} {run['setting']}"
            print(
                f"{data} seed {seed}, {number} of {len(runs)}: {name} from {run['teacher']}: "
                f"{found['test']:.4f} ({found['cpu_seconds']} s)",
                flush=True,
            )
        return True

    def train(self, run: dict[str, Any], teachers: teaching.Teachers, task: sentences.Task) -> Any:
        """Trains one student."""
        config, method, seed = self.config, run["method"], run["seed"]
        train, chosen = self._training_data(run, task)
        school = self._school(run, task, len(chosen), teachers)
        if method == "hint":
            said = teachers.hidden[chosen]
            school.teacher.layers[-1].set_weights(teachers.head)
        elif run["teacher"] is None:
            said = np.zeros((len(chosen), task.classes), "float32")
        else:
            said = self._said(method, run, teachers)[chosen]
        watch = method == "labels alone" and run["data"] in config["data"]
        return school.run(run["setting"], train, said, seed, watch=watch)

    def _said(self, method: str, run: dict[str, Any], teachers: teaching.Teachers) -> np.ndarray:
        name = {"early-stopped teacher": "early", "assistant chain": "assistant"}.get(
            method, run["teacher"]
        )
        if method != "ensemble":
            return teachers.said(name)
        # The whole ladder, as `keras_ats.teachers.Ensemble(combine="logits")` averages it.
        ladder = self.config["teachers"]["networks"]
        return np.mean([teachers.said(one) for one in ladder], axis=0)

    def _training_data(self, run: dict[str, Any], task: sentences.Task) -> Any:
        chosen = np.arange(len(task.train[1]))
        if run["size"] == "few":
            each = self.config["data"][run["data"]]["few"]
            chosen = sentences.places_of_few(task, each, run["seed"])
        return (task.train[0][chosen], task.train[1][chosen]), chosen

    def _school(
        self, run: dict[str, Any], task: sentences.Task, samples: int, teachers: teaching.Teachers
    ) -> School:
        loss = {"labels alone": "ATS", "one temperature": "ATS"}.get(run["method"], run["method"])
        loss = "ATS" if run["setting"].get("pair") and loss != "LA + ATS" else loss
        budget = run["setting"].get("budget", 1)
        key = (run["data"], run["size"], run["student"], loss, budget)
        if key not in self.schools:
            hint = run["method"] == "hint"
            self.schools[key] = School(
                task,
                loss,
                self.config["students"][run["student"]],
                say_on(teachers.hidden.shape[1], task.classes) if hint else say_again(task.classes),
                samples,
                self.config["epochs"][run["size"]] * budget,
                self.config,
            )
        return self.schools[key]


def versions_of() -> dict[str, str]:
    """What a run was computed with."""
    backend = keras.backend.backend()
    return {
        "keras_ats": keras_ats.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {__import__(backend).__version__}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    main()
