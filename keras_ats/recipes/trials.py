"""Students trained again and again: the same budget, several seeds, kept when they are done."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ats import files
from keras_ats._keras import symbolic_build
from keras_ats.distiller.distiller import Distiller
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.record import Lesson, Needs, Outputs, Shapes
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Config, Nested, Tensor


class Nobody:
    """Stands in the teacher's place where a student is trained alone; says and costs nothing.

    Args:
        teacher: The one in whose place it stands, which knows what of the data is the student's.
    """

    output_names = ("nobody",)
    shapes = Shapes()
    supports_jit = True

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        # Of one that is run, the sign that it may be shown augmented inputs.
        self.variables = teacher.variables

    def prepare(self, needs: Needs) -> None:
        """Has nothing to prepare."""

    def split(self, x: Nested) -> tuple[Nested, Nested]:
        """Returns what is the student's."""
        return self._teacher.split(x)[0], None

    def __call__(self, given: Nested) -> Outputs:
        """Says nothing."""
        return Outputs(None)


class Nothing(DistillationLoss):
    """The loss that goes with `Nobody`.

    Args:
        in_place_of: The loss that other students have, which says what their output is for.
    """

    name = "nothing"

    def __init__(self, in_place_of: DistillationLoss) -> None:
        self.in_place_of = in_place_of
        super().__init__()

    @property
    def named_variables(self) -> dict[str, keras.Variable]:
        """None: those of the other loss are not trained here."""
        return {}

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns 0."""
        return {self.name: ops.zeros(())}


class Trial:
    """A distiller that is compiled once and trained from new weights for each seed.

    Args:
        distiller: Compiled.
        build_student: Makes a new student.
        train: What `fit` takes: `(x, y)`, `(x, y, sample_weight)` or one set of data.
        test: What `evaluate` takes, likewise.
        fit: Other arguments of `fit`.
        metric: Name of the value of `evaluate` that counts.
    """

    def __init__(
        self,
        distiller: Distiller,
        build_student: Callable[[], keras.Model],
        train: Any,
        test: Any,
        fit: Config,
        metric: str,
    ) -> None:
        self.distiller, self.build_student = distiller, build_student
        self.train, self.test, self.options, self.metric = train, test, fit, metric
        # Values that this trial is about, by the `id` of their variables.
        self.settings: dict[int, float] = {}
        distiller.optimizer.build(distiller.trainable_variables)
        if isinstance(train, tuple):
            # The first `fit` would do it, draw random numbers for it, and shuffle otherwise.
            first = keras.tree.map_structure(lambda leaf: leaf[:2], train[:2])
            symbolic_build(distiller, first)
            self._check_metric(distiller.get_metrics_result())
        of_student = {id(variable) for variable in distiller.student.variables}
        self._rest = [
            (variable, np.array(ops.convert_to_numpy(variable)))
            for variable in (*distiller.variables, *distiller.optimizer.variables)
            if id(variable) not in of_student
        ]

    def fit(self, seed: int) -> Any:
        """Trains a new student and returns Keras's history."""
        keras.utils.set_random_seed(seed)
        fresh = self.build_student()
        shapes = [[one.shape for one in each.variables] for each in (self.distiller.student, fresh)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "`build_student` must make the same network in each call. Received: weights of "
                f"shapes {shapes[1]} after {shapes[0]}."
            )
        for variable, new in zip(self.distiller.student.variables, fresh.variables, strict=True):
            variable.assign(ops.convert_to_numpy(new))
        for variable, value in self._rest:
            variable.assign(self.settings.get(id(variable), value))
        # Before both: students of one seed see the same batches.
        keras.utils.set_random_seed(seed)
        return self.distiller.fit(**_arguments(self.train), **self.options)

    def run(self, seed: int) -> float:
        """Trains a new student and returns what it comes to; NaN if its loss has become one."""
        history = getattr(self.fit(seed), "history", {})
        # Its answers would be one class for all, and their accuracy a number like any other.
        if not np.isfinite(history.get("loss", [0.0])[-1]):
            return math.nan
        # Other data than arrays come in batches of their own.
        size = self.options["batch_size"] if isinstance(self.test, tuple) else None
        logs = self.distiller.evaluate(
            **_arguments(self.test), batch_size=size, verbose=0, return_dict=True
        )
        self._check_metric(logs)
        return float(logs[self.metric])

    def _check_metric(self, logs: Config) -> None:
        if self.metric not in logs:
            raise ValueError(
                f"`metric` is not among what `evaluate` returns. Received: metric={self.metric!r}. "
                f"Expected: one of {sorted(logs)}."
            )


class Results:
    """What is done already, in a file that is there whole or not at all.

    Args:
        path: The file; None keeps nothing.
        settings: What the runs have in common; a file of others is refused.

    Raises:
        ValueError: If the file is of other settings, or damaged.
    """

    def __init__(self, path: Path | None, settings: Config) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings, default=str))
        self.done: dict[str, float] = {}
        if path is not None and path.exists():
            saved = _saved_in(path)
            different = [
                name for name in self.settings if saved["settings"].get(name) != self.settings[name]
            ]
            if different:
                raise ValueError(
                    f"`folder` holds results of other settings. Received: {path}, with another "
                    f"{', '.join(different)}. Give another folder, or delete it."
                )
            self.done = saved["runs"]

    def has(self, name: str, seeds: Sequence[int]) -> bool:
        """Returns whether nothing is left to run."""
        return all(self._key(name, seed) in self.done for seed in seeds)

    def get(self, name: str, seed: int, trial: Trial | None) -> float:
        """Returns a result, by running the trial only if it is not there."""
        key = self._key(name, seed)
        if trial is not None and key not in self.done:
            self.done[key] = trial.run(seed)
            self._save()
        return self.done[key]

    @staticmethod
    def _key(name: str, seed: int) -> str:
        return f"{name} / seed {seed}"

    def _save(self) -> None:
        if self.path is None:
            return
        content = {"settings": self.settings, "runs": self.done}
        with files.whole_file(self.path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _saved_in(path: Path) -> Config:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {name: dict(saved[name]) for name in ("settings", "runs")}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"`folder` holds a file that is not as it was written. Received: {path}. Expected: the "
            "results of earlier runs. Delete the file to start anew, or bring it back."
        ) from error


def _arguments(data: Any) -> dict[str, Any]:
    if not isinstance(data, tuple):
        return {"x": data}
    return dict(zip(("x", "y", "sample_weight"), data, strict=False))
