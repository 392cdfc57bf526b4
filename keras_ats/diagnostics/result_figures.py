"""Figures of what students came to, in the forms of the ATS paper."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ats.checks import as_number, one_of
from keras_ats.diagnostics.report import Report
from keras_ats.diagnostics.style import clean, look, new_figure, short


def plot_temperature_map(
    values: Mapping[tuple[float, float], float], label: str = "accuracy", mode: str = "max"
) -> Any:
    """Draws what students came to over correct and wrong temperature (figure 10).

    Args:
        values: Value by pair of correct and wrong temperature; pairs may be missing.
        label: What the values are. Defaults to `"accuracy"`.
        mode: Whether more of it is better, `"max"` (default), or less, `"min"`.

    Returns:
        A `matplotlib.figure.Figure`; the best pair has a frame.

    Raises:
        ImportError: If matplotlib is missing.
        TypeError: If `values` is no dict of numbers by pair.

    Example:

    ```python
    found = {(4.0, 2.0): 0.91, (4.0, 4.0): 0.90, (8.0, 2.0): 0.92}
    figure = keras_ats.diagnostics.plot_temperature_map(found)
    ```
    """
    if not isinstance(values, Mapping) or not values or not all(map(_is_pair, values)):
        raise TypeError(
            "`values` must be a dict of numbers by pair of temperatures. Received: "
            f"values={values!r}. Expected: such as {{(4.0, 2.0): 0.91}}."
        )
    find = {"max": np.nanargmax, "min": np.nanargmin}[one_of(mode, "mode", ("max", "min"))]
    found = {pair: as_number(value, "values") for pair, value in values.items()}
    corrects, wrongs = (sorted({pair[side] for pair in found}) for side in (0, 1))
    grid = np.full((len(wrongs), len(corrects)), np.nan)
    for (correct, wrong), value in found.items():
        grid[wrongs.index(wrong), corrects.index(correct)] = value
    figure = new_figure(1.1 * len(corrects) + 2.4, 0.8 * len(wrongs) + 1.4)
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="viridis", origin="lower", aspect="auto")
    low, high = np.nanmin(grid), np.nanmax(grid)
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            dark = value < (low + high) / 2
            axes.text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize=9,
            )
    row, column = np.unravel_index(find(grid), grid.shape)
    x, y = [-0.46, 0.46, 0.46, -0.46, -0.46], [-0.46, -0.46, 0.46, 0.46, -0.46]
    axes.plot([column + one for one in x], [row + one for one in y], color="black", linewidth=2.5)
    axes.set(
        xticks=range(len(corrects)),
        yticks=range(len(wrongs)),
        xticklabels=[f"{one:g}" for one in corrects],
        yticklabels=[f"{one:g}" for one in wrongs],
    )
    clean(axes, "", "correct temperature", "wrong temperature")
    figure.colorbar(image, ax=axes, label=label)
    return figure


def plot_student_gain(report: Report, gains: Mapping[str, float], label: str = "gain") -> Any:
    """Draws students' gain against correct logit and wrong spread of their teachers (figure 3).

    Args:
        report: From `diagnose` of several teachers.
        gains: What the student of each teacher gained over the same student alone, by the
            teacher's name.
        label: What it is measured in. Defaults to `"gain"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a teacher of `gains` is not in the report.

    Example:

    ```python
    labels = np.arange(30) % 3
    small = 2.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3))
    report = keras_ats.diagnose({"small": small, "large": 4.0 * small}, labels)
    figure = keras_ats.diagnostics.plot_student_gain(report, {"small": 0.02, "large": 0.01})
    ```
    """
    if not isinstance(report, Report):
        raise TypeError(f"`report` must come from keras_ats.diagnose. Received: report={report!r}.")
    if not isinstance(gains, Mapping) or not gains or set(gains) - set(report.teachers):
        raise ValueError(
            "`gains` must be numbers by the names of teachers in the report. Received: "
            f"gains={gains!r}. Expected: some of {list(report.teachers)}."
        )
    figure = new_figure(8.6, 3.4)
    for axes, name, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("correct_logit", "wrong_spread"),
        ("correct logit, over the mean of the wrong ones", "spread of the wrong logits"),
        strict=True,
    ):
        for index, (teacher, gain) in enumerate(gains.items()):
            x, y = getattr(report.teachers[teacher], name), as_number(gain, "gains")
            axes.plot([x], [y], markersize=8, linestyle="", **look(index))
            axes.annotate(short(teacher), (x, y), textcoords="offset points", xytext=(7, 5))
        axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
        axes.margins(0.25)
        clean(axes, "", title, label if name == "correct_logit" else "")
    return figure


def plot_capacity(
    capacities: Sequence[float],
    one_temperature: Mapping[str, Sequence[float]],
    ats: Mapping[str, Sequence[float]],
    label: str = "accuracy",
) -> Any:
    """Draws students' accuracy against their teachers' capacity (figure 9).

    One temperature is drawn solid, ATS dashed, each student in a colour and marker of its own.
    Capacities that span more than a factor of 10 are drawn on a logarithmic axis.

    Args:
        capacities: Capacity of each teacher, such as its number of parameters in millions.
        one_temperature: For each student one value for each teacher, by the student's name.
        ats: The same under ATS.
        label: What the values are. Defaults to `"accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a student has not one value for each teacher.

    Example:

    ```python
    figure = keras_ats.diagnostics.plot_capacity(
        [0.1, 0.5, 2.0], {"student": [0.80, 0.82, 0.79]}, {"student": [0.81, 0.83, 0.84]}
    )
    ```
    """
    sizes = _numbers(capacities, "capacities")
    names = list(dict.fromkeys([*_names(one_temperature, "one_temperature"), *_names(ats, "ats")]))
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    for index, name in enumerate(names):
        for argument, curves, style, title in (
            ("one_temperature", one_temperature, "-", "one temperature"),
            ("ats", ats, "--", "ATS"),
        ):
            if name in curves:
                values = _numbers(curves[name], argument)
                if len(values) != len(sizes):
                    raise ValueError(
                        f"`{argument}` must have one value for each teacher, {len(sizes)}. "
                        f"Received: {len(values)} for '{name}'."
                    )
                axes.plot(sizes, values, style, label=f"{name}, {title}", **look(index))
    clean(axes, "", "capacity of the teacher", label)
    if min(sizes) > 0 and max(sizes) > 10 * min(sizes):
        axes.set_xscale("log")
    axes.legend(fontsize=8, frameon=False, handlelength=4)
    return figure


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2


def _names(curves: Any, argument: str) -> list[str]:
    if not isinstance(curves, Mapping):
        raise TypeError(
            f"`{argument}` must be a dict of values by the student's name. Received: "
            f"{argument}={curves!r} of type {type(curves).__name__}."
        )
    return list(curves)


def _numbers(values: Any, argument: str) -> list[float]:
    if not isinstance(values, list | tuple | np.ndarray) or len(values) == 0:
        raise TypeError(
            f"`{argument}` must be a list of numbers. Received: {argument}={values!r} of type "
            f"{type(values).__name__}."
        )
    return [as_number(float(one) if hasattr(one, "item") else one, argument) for one in values]
