"""The two temperatures of ATS by trial, on validation data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ats import checks
from keras_ats.distiller.kd_losses import as_losses, by_key
from keras_ats.losses.asymmetric_temperature_kd import AsymmetricTemperatureKD
from keras_ats.recipes.comparison import ALONE, Plan, as_file, as_mode
from keras_ats.recipes.trials import Results

_Pair = tuple[float, float]
_TEMPERATURES = ("correct_temperature", "wrong_temperature")


class TemperatureSearch:
    """What `search_temperatures` returns.

    Attributes:
        values: What students came to, one for each seed, by pair of correct and wrong temperature.
        alone: The same of the student without its teacher.
        metric: Name of the value.

    Args:
        values: As the attribute.
        alone: As the attribute.
        metric: As the attribute.
        mode: Whether more of it is better, `"max"`, or less, `"min"`; `"auto"` (default) reads it
            off the name.

    Example:

    ```python
    result = keras_ats.recipes.TemperatureSearch(
        {(4.0, 2.0): [0.91, 0.92], (4.0, 4.0): [0.90, 0.90]}, [0.88, 0.89], "accuracy"
    )
    result.best  # (4.0, 2.0)
    ```
    """

    def __init__(
        self,
        values: Mapping[_Pair, Sequence[float]],
        alone: Sequence[float],
        metric: str,
        mode: str = "auto",
    ) -> None:
        self.values = {pair: list(each) for pair, each in values.items()}
        self.alone, self.metric = list(alone), metric
        self._sign = -1 if as_mode(mode, metric) == "min" else 1

    @property
    def means(self) -> dict[_Pair, float]:
        """Mean over seeds by pair."""
        return {pair: float(np.mean(each)) for pair, each in self.values.items()}

    @property
    def best(self) -> _Pair:
        """The pair with the best mean."""
        best, mean = self._best_first()[0]
        if np.isnan(mean):
            raise ValueError(
                "No pair is best: the loss of a training became infinite or NaN with each of "
                f"{list(self.values)}. Look at the data with np.isfinite(x).all(), or take a "
                "smaller learning rate."
            )
        return best

    def __str__(self) -> str:
        """Returns the pairs, the best first, and the student alone."""
        means = self._best_first()
        lines = [f"correct  wrong  {self.metric}", "-" * (16 + len(self.metric))]
        lines += [f"{pair[0]:7.4g}  {pair[1]:5.4g}  {mean:.4f}" for pair, mean in means]
        return "\n".join([*lines, f"student alone    {np.mean(self.alone):.4f}"])

    __repr__ = __str__

    def _best_first(self) -> list[tuple[_Pair, float]]:
        def rank(one: tuple[_Pair, float]) -> tuple[bool, float]:
            return bool(np.isnan(one[1])), -self._sign * one[1]

        return sorted(self.means.items(), key=rank)

    def plot(self) -> Any:
        """Returns the heat map, a matplotlib figure; needs the extra `plot`."""
        from keras_ats.diagnostics.result_figures import plot_temperature_map

        label = f"{self.metric} (student alone: {np.mean(self.alone):.3f})"
        return plot_temperature_map(self.means, label, "min" if self._sign < 0 else "max")


def search_temperatures(
    teacher: Any,
    build_student: Callable[[], keras.Model],
    train: Any,
    validation: Any,
    *,
    correct_temperatures: Sequence[float] = (2.0, 4.0, 6.0, 8.0),
    wrong_temperatures: Sequence[float] = (1.0, 2.0, 4.0),
    epochs: int = 1,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    kd_loss: Any = None,
    seeds: Sequence[int] = (0, 1),
    optimizer: Callable[[], keras.optimizers.Optimizer] | str = "adam",
    loss: Any = "auto",
    kd_weight: float = 0.5,
    metric: str = "accuracy",
    mode: str = "auto",
    folder: str | Path | None = None,
    verbose: bool = True,
    **distiller: Any,
) -> TemperatureSearch:
    """Tries pairs of temperatures on validation data, and the student alone.

    Pairs whose wrong temperature is above the correct one are left out. One distiller is compiled,
    and its temperatures assigned, so that a pair costs a training and nothing else.

    Args:
        teacher: As for `Distiller`; a `CachedTeacher`, which need not be run, makes it cheap.
        build_student: A function without arguments that makes a new student.
        train: As for `compare`.
        validation: The same for `evaluate`: held-out data, never those of the test.
        correct_temperatures: To be tried. Defaults to 2, 4, 6, 8.
        wrong_temperatures: To be tried. Defaults to 1, 2, 4.
        epochs: Of each training. Defaults to 1.
        batch_size: Where `train` or `validation` are arrays. Defaults to None.
        steps_per_epoch: As for `fit`; data that never end need it. Defaults to None.
        kd_loss: A loss with a correct and a wrong temperature. None (default) is
            `AsymmetricTemperatureKD`; `BernoulliKD()` is for sigmoid heads. For models with several
            outputs a dict, as for `Distiller.compile`: those of its losses that have the two
            temperatures get them.
        seeds: Of weights and order. Defaults to 0 and 1.
        optimizer: Its name, or a function that makes one anew. Defaults to `"adam"`.
        loss: As for `Distiller.compile`. Defaults to `"auto"`.
        kd_weight: As for `Distiller.compile`. Defaults to 0.5.
        metric: The value of `evaluate` that counts. Defaults to `"accuracy"`.
        mode: As for `compare`. Defaults to `"auto"`.
        folder: Where finished runs are kept, so that a stopped search goes on. Defaults to None.
        verbose: Whether to show a progress bar. Defaults to True.
        **distiller: Other arguments of `Distiller`.

    Returns:
        A `TemperatureSearch`: `print` it, or use `best`, `means`, `plot()`.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If no pair is left, or `folder` holds results of other settings.

    Example:

    ```python
    x, y = np.random.rand(64, 8).astype("float32"), np.random.randint(0, 3, 64)
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])

    def build_student():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])

    found = keras_ats.search_temperatures(
        teacher, build_student, (x[:48], y[:48]), (x[48:], y[48:]),
        correct_temperatures=[4.0], wrong_temperatures=[2.0], seeds=[0], verbose=False,
    )
    found.best
    ```
    """
    mode = as_mode(mode, metric)
    grids = [
        [checks.temperature(one, name) for one in checks.as_list(given, name, "[4.0, 8.0]")]
        for name, given in (
            ("correct_temperatures", correct_temperatures),
            ("wrong_temperatures", wrong_temperatures),
        )
    ]
    pairs = [(correct, wrong) for correct in grids[0] for wrong in grids[1] if wrong <= correct]
    if not pairs:
        raise ValueError(
            "No pair is left to try: the correct temperature must not be below the wrong one. "
            f"Received: correct_temperatures={correct_temperatures!r}, "
            f"wrong_temperatures={wrong_temperatures!r}."
        )
    plan = Plan(
        build_student=build_student,
        train=train,
        test=validation,
        epochs=epochs,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        seeds=seeds,
        optimizer=optimizer,
        loss=loss,
        metric=metric,
        kd_weight=kd_weight,
        verbose=verbose,
    )
    settings = plan.settings(teacher)
    if kd_loss is None:
        kd_loss = AsymmetricTemperatureKD(*pairs[0])
    else:
        kd_loss = with_two_temperatures(kd_loss)
        settings["kd_loss"] = keras.tree.map_structure(lambda one: type(one).__name__, kd_loss)
    results = Results(as_file(folder, "temperatures.json"), settings)
    bar = plan.progress(len(pairs) + 1)
    names = {pair: f"{pair[0]:g}, {pair[1]:g}" for pair in pairs}
    alone, trial = None, None
    if not all(results.has(name, plan.seeds) for name in names.values()):
        # Before the first student is trained: what cannot be distilled is said at once.
        trial = plan.distilled(teacher, kd_loss, distiller)
    if not results.has(ALONE, plan.seeds):
        alone = plan.alone(teacher, kd_loss, distiller)
    of_alone = plan.run_seeds(ALONE, alone, results, bar)
    values = {}
    for pair, name in names.items():
        if trial is not None:
            trial.settings = {
                id(getattr(one, name)): value
                for one in filter(_has_two_temperatures, by_key(kd_loss).values())
                for name, value in zip(_TEMPERATURES, pair, strict=True)
            }
        values[pair] = plan.run_seeds(name, trial, results, bar)
    return TemperatureSearch(values, of_alone, plan.metric, mode)


def with_two_temperatures(kd_loss: Any) -> Any:
    """Returns a loss, or raises if it does not have the two temperatures that are tried."""
    found = as_losses(kd_loss)
    if not any(map(_has_two_temperatures, by_key(found).values())):
        raise TypeError(
            "`kd_loss` must have two temperatures to try. Received: "
            f"kd_loss={kd_loss!r}. Expected: AsymmetricTemperatureKD(), or BernoulliKD() for "
            "sigmoid heads."
        )
    return found


def _has_two_temperatures(loss: Any) -> bool:
    return all(hasattr(loss, name) for name in _TEMPERATURES)
