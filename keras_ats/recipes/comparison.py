"""A student with and without its teacher."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ats import checks, files
from keras_ats._keras import less_is_better
from keras_ats.configurable import serialize
from keras_ats.distiller.distiller import Distiller
from keras_ats.distiller.kd_losses import as_losses
from keras_ats.losses.asymmetric_temperature_kd import AsymmetricTemperatureKD
from keras_ats.recipes import materials
from keras_ats.recipes.trials import Nobody, Nothing, Results, Trial
from keras_ats.teachers.live import as_teacher

ALONE = "student alone"
# What of the arguments of `Distiller` is not about the teacher.
_OF_THE_STUDENT = ("augmentation", "student_from_logits")


class Comparison:
    """What `compare` returns: every run, and the differences seed by seed.

    Attributes:
        values: What each run came to, by method, one for each seed; `"student alone"` first.
        seeds: The seeds.
        metric: Name of the value.

    Args:
        values: As the attribute.
        seeds: As the attribute.
        metric: As the attribute.
        mode: Whether more of it is better, `"max"`, or less, `"min"`; `"auto"` (default) reads it
            off the name.

    Example:

    ```python
    result = keras_ats.recipes.Comparison(
        {"student alone": [0.80, 0.82], "ATS": [0.83, 0.84]}, [0, 1], "accuracy"
    )
    print(result)
    result.difference("ATS")  # (0.025, 0.005): mean and standard error
    ```
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[float]],
        seeds: Sequence[int],
        metric: str,
        mode: str = "auto",
    ) -> None:
        self.values = {name: list(each) for name, each in values.items()}
        self.seeds, self.metric = list(seeds), metric
        self._less_is_better = as_mode(mode, metric) == "min"

    def difference(self, method: str) -> tuple[float, float]:
        """Returns mean and standard error of the differences to the student alone, seed by seed.

        Args:
            method: Its name.

        Returns:
            The mean, and its standard error; NaN for a single seed.
        """
        if method not in self.values:
            raise ValueError(
                f"`method` was not compared. Received: method={method!r}. Expected: one of "
                f"{list(self.values)}."
            )
        gaps = np.subtract(self.values[method], self.values[ALONE])
        error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else math.nan
        return float(gaps.mean()), float(error)

    def to_dict(self) -> dict[str, Any]:
        """Returns all values, as JSON takes them: None for what is not a number."""
        values = {
            name: [None if math.isnan(one) else one for one in each]
            for name, each in self.values.items()
        }
        return {"metric": self.metric, "seeds": self.seeds, "values": values}

    def __str__(self) -> str:
        """Returns one table."""
        header = ["", self.metric, "spread", "difference", "better in"]
        rows = []
        for name, each in self.values.items():
            spread = f"{np.std(each, ddof=1):.4f}" if len(each) > 1 else "one seed"
            row = [name, f"{np.mean(each):.4f}", spread, "", ""]
            if name != ALONE:
                mean, error = self.difference(name)
                row[3] = f"{mean:+.4f}" + (f" ± {error:.4f}" if len(each) > 1 else "")
                pairs = zip(each, self.values[ALONE], strict=True)
                better = sum(a < b if self._less_is_better else a > b for a, b in pairs)
                row[4] = f"{better} of {len(each)}"
            rows.append(row)
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in [header, *rows]
        ]
        note = (
            "spread: standard deviation over seeds; difference: to the student alone, seed by "
            "seed, ± standard error"
        )
        if self._less_is_better:
            note += f"; less {self.metric} is better"
        if any(math.isnan(one) for each in self.values.values() for one in each):
            note += "; nan: the loss of a training became infinite or NaN"
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], note])

    __repr__ = __str__

    def plot(self) -> Any:
        """Returns a matplotlib figure: each seed a line from the student alone to each method."""
        from keras_ats.diagnostics.style import clean, look, new_figure

        figure = new_figure(1.7 * len(self.values) + 2, 3.6)
        axes = figure.subplots()
        names = list(self.values)
        for index, seed in enumerate(self.seeds):
            values = [self.values[name][index] for name in names]
            axes.plot(names, values, label=f"seed {seed}", alpha=0.7, linewidth=1, **look(index))
        means = [np.mean(self.values[name]) for name in names]
        axes.plot(names, means, "_", color="black", markersize=34, markeredgewidth=3, label="mean")
        clean(axes, "", "", self.metric)
        axes.margins(x=0.15)
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def compare(
    teacher: Any,
    build_student: Callable[[], keras.Model],
    train: Any,
    test: Any,
    kd_losses: Mapping[str, Any] | None = None,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    optimizer: Callable[[], keras.optimizers.Optimizer] | str = "adam",
    loss: Any = "auto",
    kd_weight: float = 0.5,
    student_weight: float | None = None,
    metric: str = "accuracy",
    metrics: Sequence[Any] | Mapping[str, Any] | None = None,
    mode: str = "auto",
    folder: str | Path | None = None,
    verbose: bool = True,
    **distiller: Any,
) -> Comparison:
    """Trains a student with its teacher and, with the same budget, alone; over several seeds.

    A gain says nothing without its baseline. Students of one seed start from the same weights and
    see the same batches, so their difference is the teacher's; that of several seeds says how much
    of it is chance.

    Args:
        teacher: As for `Distiller`.
        build_student: A function without arguments that makes a new student.
        train: `(x, y)` or `(x, y, sample_weight)`, or data that `fit` takes again and again.
        test: The same for `evaluate`. Choose nothing by it that you then report on it.
        kd_losses: Distillation losses by the name that they are to have in the table. None
            (default) is `{"ATS (4, 2)": AsymmetricTemperatureKD(4, 2)}`. For models with several
            outputs each is a dict in turn, as for `Distiller.compile`.
        epochs: Of each training. Defaults to 1.
        batch_size: Where `train` or `test` are arrays, as for `fit`. Defaults to None.
        steps_per_epoch: As for `fit`; data that never end need it. Defaults to None.
        seeds: Of weights and order, at least one. Defaults to 0, 1, 2.
        optimizer: Its name, or a function that makes one anew. Defaults to `"adam"`.
        loss: As for `Distiller.compile`; the student alone has `"auto"` for None, which leaves the
            other to its teacher. Defaults to `"auto"`.
        kd_weight: As for `Distiller.compile`; the student alone has weight 1. Defaults to 0.5.
        student_weight: As for `Distiller.compile`. Defaults to None.
        metric: The value of `evaluate` that is compared. Defaults to `"accuracy"`.
        metrics: As for `Distiller.compile`. None (default) is `[metric]`, unless that is `"loss"`;
            of several outputs `"kind_accuracy"` is the accuracy of the output `"kind"`.
        mode: Whether more of the metric is better, `"max"`, or less, `"min"`. `"auto"` (default)
            knows Keras's metrics and losses, and takes more of any other to be better.
        folder: Where finished runs are kept, so that a stopped comparison goes on. Defaults to
            None, which keeps nothing.
        verbose: Whether to show a progress bar. Defaults to True.
        **distiller: Other arguments of `Distiller`, such as `teacher_inputs`.

    Returns:
        A `Comparison`: `print` it, or use `values`, `difference(name)`, `plot()`.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If there is no seed, `metric` is not logged, data never end, or `folder` holds
            results of other settings, weights or data.

    Example:

    ```python
    x, y = np.random.rand(64, 8).astype("float32"), np.random.randint(0, 3, 64)
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])

    def build_student():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])

    print(keras_ats.compare(teacher, build_student, (x, y), (x, y), seeds=[0, 1], verbose=False))
    ```
    """
    mode = as_mode(mode, metric, metrics)
    if kd_losses is None:
        kd_losses = {"ATS (4, 2)": AsymmetricTemperatureKD(4, 2)}
    if not isinstance(kd_losses, Mapping) or not kd_losses or ALONE in kd_losses:
        raise TypeError(
            "`kd_losses` must be a dict of losses by name. Received: "
            f"kd_losses={kd_losses!r}. Expected: such as {{'KD': losses.TemperatureKD(4)}}."
        )
    plan = Plan(
        build_student=build_student,
        train=train,
        test=test,
        epochs=epochs,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        seeds=seeds,
        optimizer=optimizer,
        loss=loss,
        metric=metric,
        metrics=metrics,
        kd_weight=kd_weight,
        student_weight=student_weight,
        verbose=verbose,
    )
    kd_losses = {str(name): one for name, one in kd_losses.items()}
    settings = plan.settings(teacher) | {
        "kd_losses": {name: serialize(one) for name, one in kd_losses.items()}
    }
    results = Results(as_file(folder, "comparison.json"), settings)
    # All before the first is trained: what cannot be distilled is said at once, and whatever draws
    # random numbers starts from the same state in each.
    trials: dict[str, Trial | None] = dict.fromkeys((ALONE, *kd_losses))
    for name, kd_loss in kd_losses.items():
        if not results.has(name, plan.seeds):
            trials[name] = plan.distilled(teacher, kd_loss, distiller)
    if not results.has(ALONE, plan.seeds):
        trials[ALONE] = plan.alone(teacher, next(iter(kd_losses.values())), distiller)
    bar = plan.progress(len(trials))
    values = {name: plan.run_seeds(name, trial, results, bar) for name, trial in trials.items()}
    return Comparison(values, plan.seeds, plan.metric, mode)


class Plan:
    """What all runs have in common, checked.

    Args:
        build_student: As for `compare`, and so are all others.
        train: Likewise.
        test: Likewise.
        epochs: Likewise.
        batch_size: Likewise.
        steps_per_epoch: Likewise.
        seeds: Likewise.
        optimizer: Likewise.
        loss: Likewise.
        metric: Likewise.
        kd_weight: Likewise.
        verbose: Likewise.
        metrics: Likewise.
        student_weight: Likewise.
    """

    def __init__(
        self,
        *,
        build_student: Callable[[], keras.Model],
        train: Any,
        test: Any,
        epochs: int,
        batch_size: int | None,
        steps_per_epoch: int | None,
        seeds: Sequence[int],
        optimizer: Callable[[], keras.optimizers.Optimizer] | str,
        loss: Any,
        metric: str,
        kd_weight: float,
        verbose: bool,
        metrics: Sequence[Any] | Mapping[str, Any] | None = None,
        student_weight: float | None = None,
    ) -> None:
        if isinstance(build_student, keras.Model):
            raise TypeError(
                "`build_student` must be a function that makes a new student in each call. "
                f"Received: the model '{build_student.name}'. Expected: such as lambda: "
                "keras.models.clone_model(student)."
            )
        checks.check_function(build_student, "build_student", "it makes a new student")
        self.build_student, self.train, self.test = build_student, train, test
        self.epochs = checks.as_integer(epochs, "epochs")
        self.batch_size = (
            None if batch_size is None else checks.as_integer(batch_size, "batch_size")
        )
        self.steps = (
            None
            if steps_per_epoch is None
            else checks.as_integer(steps_per_epoch, "steps_per_epoch")
        )
        check_data(train, "train", self.steps)
        check_data(test, "test", None)
        self.seeds = as_seeds(seeds)
        self.optimizer, self.loss = as_optimizer(optimizer), loss
        self.metric = checks.as_string(metric, "metric", "a value of `evaluate`")
        self.metrics = (
            metrics
            if metrics is None or isinstance(metrics, Mapping)
            else checks.as_list(metrics, "metrics", "['accuracy']")
        )
        self.kd_weight = checks.non_negative_number(kd_weight, "kd_weight")
        self.student_weight = student_weight
        self.verbose = checks.as_boolean(verbose, "verbose")
        # The last one that was built.
        self._student = as_student(build_student())

    def settings(self, teacher: Any) -> dict[str, Any]:
        """Returns what runs must share to stand in one table."""
        return {
            "teacher": materials.of_model(teacher),
            "student": materials.of_shapes(self._student),
            "train": materials.of_data(self.train),
            "test": materials.of_data(self.test),
            "loss": materials.of_loss(self.loss),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps,
            "kd_weight": self.kd_weight,
            "student_weight": self.student_weight,
            "metric": self.metric,
            # Keras counts optimizers in their names.
            "optimizer": serialize({**self.optimizer().get_config(), "name": None}),
        }

    def alone(self, teacher: Any, kd_loss: Any, options: dict[str, Any]) -> Trial:
        """Returns the trial of the student without a teacher, on what it sees with one.

        Args:
            teacher: The teacher of the others.
            kd_loss: A loss of theirs, from which `loss="auto"` tells what an output is for.
            options: Other arguments of `Distiller`.
        """
        given = options.get("teacher_from_logits"), options.get("teacher_inputs")
        nobody = Nobody(as_teacher(teacher, *given))
        own = {name: options[name] for name in _OF_THE_STUDENT if name in options}
        # Nothing but the labels is left, where the other learns from the teacher alone.
        weights = {"kd_weight": 0.0, "loss": "auto" if self.loss is None else self.loss}
        nothing = keras.tree.map_structure(Nothing, as_losses(kd_loss))
        return self._trial(nobody, nothing, weights, own)

    def distilled(self, teacher: Any, kd_loss: Any, options: dict[str, Any]) -> Trial:
        """Returns the trial with a teacher and this loss."""
        weights = {
            "kd_weight": self.kd_weight,
            "student_weight": self.student_weight,
            "loss": self.loss,
        }
        return self._trial(teacher, kd_loss, weights, options)

    def progress(self, trials: int) -> Any:
        """Returns a progress bar for so many trials, or None."""
        total = trials * len(self.seeds)
        return keras.utils.Progbar(total, unit_name="student") if self.verbose else None

    def run_seeds(self, name: str, trial: Trial | None, results: Results, bar: Any) -> list[float]:
        """Returns what students of all seeds come to; the trial is None if all are done."""
        values = []
        for seed in self.seeds:
            values.append(results.get(name, seed, trial))
            if bar is not None:
                bar.add(1)
        return values

    def _trial(self, teacher: Any, kd_loss: Any, weights: Any, options: dict[str, Any]) -> Trial:
        student = self.build_student()
        if student is self._student:
            raise ValueError(
                "`build_student` must make a new student in each call. Received: the same model "
                "twice, which would go on with what it has learned. Build the model within it."
            )
        self._student = student
        distiller = Distiller(teacher, student, **options)
        metrics = self.metrics
        if metrics is None:
            metrics = metrics_for(self.metric, getattr(distiller, "output_names", []))
        distiller.compile(self.optimizer(), kd_loss=kd_loss, metrics=metrics, **weights)
        fit = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps,
            "verbose": 0,
        }
        if not isinstance(self.train, tuple | keras.utils.PyDataset):
            # Such data come in their own order, and Keras warns of the True that is its default.
            fit["shuffle"] = False
        return Trial(distiller, self.build_student, self.train, self.test, fit, self.metric)


def check_data(data: Any, name: str, steps: int | None) -> None:
    """Raises if data cannot be gone through again and again, or never end.

    Args:
        data: As for `fit`.
        name: Of the argument.
        steps: How many batches of them are an epoch; None for all.
    """
    if isinstance(data, tuple) and len(data) not in (2, 3):
        raise ValueError(
            f"`{name}` must be (x, y), (x, y, sample_weight), or one set of data. Received: a "
            f"tuple of {len(data)}."
        )
    if isinstance(data, list | Mapping) or hasattr(data, "shape"):
        raise TypeError(
            f"`{name}` must have inputs and labels: a tuple (x, y) of arrays, or a dataset of "
            f"batches. Received: {name} of type {type(data).__name__}."
        )
    if isinstance(data, Iterator):
        raise TypeError(
            f"`{name}` must be data that can be gone through once for each student. Received: "
            f"{name}={data!r} of type {type(data).__name__}, which is used up by the first. "
            "Expected: arrays, a tf.data.Dataset, a DataLoader or a keras.utils.PyDataset."
        )
    if steps is None and checks.is_endless(data):
        remedy = "Pass steps_per_epoch." if name == "train" else "Give data that end."
        raise ValueError(
            f"`{name}` never ends. Received: {name}={data!r}, and no number of batches. {remedy}"
        )


def as_student(made: Any) -> keras.Model:
    """Returns what `build_student` made, or raises if it is no student that can be trained."""
    if not isinstance(made, keras.Model):
        raise TypeError(
            f"`build_student` must return a new keras.Model. Received: {made!r} of type "
            f"{type(made).__name__}."
        )
    if not made.built:
        raise ValueError(
            f"`build_student` must make a student whose weights exist. Received: '{made.name}', "
            "which is not built. Give its first layer an input shape (keras.Input), or call it on "
            "a batch before it is returned."
        )
    return made


def as_seeds(seeds: Any) -> list[int]:
    """Returns seeds, or raises if there is none or one is there twice."""
    if isinstance(seeds, range | np.ndarray):
        seeds = list(seeds)
    given = [
        checks.as_integer(one, "seeds", minimum=0)
        for one in checks.as_list(seeds, "seeds", "[0, 1, 2]")
    ]
    if not given or len(set(given)) < len(given):
        raise ValueError(
            f"`seeds` must be different numbers, at least one. Received: seeds={seeds}."
        )
    return given


def as_optimizer(optimizer: Any) -> Callable[[], keras.optimizers.Optimizer]:
    """Returns a function that makes an optimizer, from its name or such a function."""
    if isinstance(optimizer, str) and optimizer:
        keras.optimizers.get(optimizer)
        return lambda: keras.optimizers.get(optimizer)
    made = optimizer() if callable(optimizer) else None
    if not isinstance(made, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be the name of one, or a function that makes one anew for each "
            f"student. Received: optimizer={optimizer!r}. Expected: such as lambda: "
            "keras.optimizers.Adam(1e-3)."
        )
    return optimizer


def metrics_for(metric: str, outputs: Sequence[str]) -> Any:
    """Returns the metrics that the one that counts needs.

    Args:
        metric: Its name in the logs.
        outputs: Names of the student's outputs, with which it may begin.
    """
    if metric in ("loss", "student_loss"):
        return []  # Logged in any case.
    for output in outputs if len(outputs) > 1 else ():
        if metric.startswith(f"{output}_"):
            rest = metric.removeprefix(f"{output}_")
            return {} if rest == "loss" else {output: [rest]}
    return [metric]


def as_mode(mode: Any, metric: Any, metrics: Any = None) -> str:
    """Returns `"min"` where less of a metric is better, else `"max"`.

    Args:
        mode: `"min"`, `"max"`, or `"auto"`, which looks.
        metric: Its name in the logs.
        metrics: Metrics of which it may be one.
    """
    mode = checks.one_of(mode, "mode", ("auto", "min", "max"))
    name = checks.as_string(metric, "metric", "a value of `evaluate`")
    if mode != "auto":
        return mode
    if name == "loss" or name.endswith("_loss"):
        return "min"
    # An output's name may stand in front.
    ends = [name, *(name[place + 1 :] for place, letter in enumerate(name) if letter == "_")]
    given = [one for one in keras.tree.flatten(metrics) if getattr(one, "name", None) in ends]
    return "min" if any(map(less_is_better, given or ends)) else "max"


def as_file(folder: Any, name: str) -> Path | None:
    """Returns the file within a folder, or None for None."""
    return None if folder is None else files.local_path(folder, "folder") / name
