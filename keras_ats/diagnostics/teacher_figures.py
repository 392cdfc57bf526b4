"""Figures of what teachers say, in the forms of the ATS paper."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ats import checks
from keras_ats.diagnostics.drawing import curves, draw_similarity, logits, reliability
from keras_ats.diagnostics.findings import TeacherFindings
from keras_ats.diagnostics.logits import Said
from keras_ats.diagnostics.report import Report
from keras_ats.diagnostics.softening import is_wrong, soft_targets
from keras_ats.diagnostics.style import COLORS, clean, new_figure

_Pair = tuple[float, float]


def plot_soft_targets(
    report: Report,
    samples: Sequence[int] | None = None,
    temperatures: Sequence[_Pair] | None = None,
    *,
    teacher: str | None = None,
    images: Any = None,
) -> Any:
    """Draws what a teacher teaches about chosen samples, under several temperatures (figure 1).

    Args:
        report: From `diagnose`.
        samples: Numbers of the samples, in the order of the data; None (default) takes three, each
            of another class, about whose wrong classes the teacher has most to say.
        temperatures: Pairs of correct and wrong temperature, one column each; None (default) takes
            1, 4 and the suggested pair.
        teacher: Name of the teacher. Defaults to the first.
        images: Images of the samples, shape `(N, height, width)` or with channels, to be shown
            beside them. Defaults to None.

    Returns:
        A `matplotlib.figure.Figure`; `figure.savefig("soft_targets.png")` keeps it.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a teacher or sample is not in the report.

    Example:

    ```python
    labels = np.arange(30) % 3
    report = keras_ats.diagnose(4.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3)), labels)
    figure = keras_ats.diagnostics.plot_soft_targets(report)
    ```
    """
    found = _one(report, teacher)
    suggestion = found.suggestion
    suggested = suggestion.correct_temperature, suggestion.wrong_temperature
    given = [(1.0, 1.0), (4.0, 4.0), suggested] if temperatures is None else temperatures
    pairs = [_pair(pair) for pair in checks.as_list(given, "temperatures", "[(4.0, 2.0)]")]
    if not pairs:
        raise ValueError(
            "`temperatures` must hold at least one pair. Received: temperatures="
            f"{temperatures!r}. Expected: such as [(1.0, 1.0), (4.0, 2.0)]."
        )
    if images is not None and len(getattr(images, "shape", ())) < 3:
        raise TypeError(
            "`images` must be an array of shape (N, height, width). Received: "
            f"images={images!r} of type {type(images).__name__}."
        )
    chosen = _telling(found, suggested) if samples is None else _numbers(samples, found)
    shown = Said(found.said.logits[chosen], found.said.labels[chosen])
    targets = [soft_targets(shown, *pair) for pair in pairs]
    columns = len(pairs) + (images is not None)
    figure = new_figure(2.6 * columns + 0.6, 1.9 * len(chosen) + 0.8)
    panels = figure.subplots(len(chosen), columns, squeeze=False)
    for place, (row, wrong) in enumerate(zip(panels, is_wrong(shown), strict=True)):
        index = chosen[place]
        bars = list(row)
        if images is not None:
            picture = bars.pop(0)
            picture.imshow(np.squeeze(images[index]), cmap="gray_r")
            picture.set_axis_off()
            picture.set_title(f"label {shown.labels[place]}", fontsize=10)
        for axes, (correct, other), softened in zip(bars, pairs, targets, strict=True):
            p = softened[place]
            axes.bar(np.arange(found.classes), p, color=np.where(wrong, COLORS[0], "#c8c8c8"))
            title = (
                f"temperature {other:g}" if correct == other else f"ATS {correct:.3g}, {other:.3g}"
            )
            clean(axes, "" if place else title)
            axes.text(
                0.98,
                0.96,
                f"spread {p[wrong].std():.3f}",
                ha="right",
                va="top",
                fontsize=8,
                transform=axes.transAxes,
            )
            if found.classes <= 20:
                axes.set_xticks(range(found.classes))
                axes.tick_params(labelsize=8)
        bars[0].set_ylabel(f"sample {index}" if images is None else "probability")
    highest = max(softened.max() for softened in targets)
    for axes in panels[:, columns - len(pairs) :].flat:
        axes.set_ylim(0, 1.25 * highest)
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1])
    figure.supxlabel("class (grey: the correct one)", fontsize=10)
    return figure


def plot_temperature_curves(report: Report) -> Any:
    """Draws derived average and deviation against temperature (figure 7).

    One temperature is drawn solid, ATS at 1.25 and 0.75 times it dashed.

    Args:
        report: From `diagnose`, with the temperatures of the curves.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    ```python
    labels = np.arange(30) % 3
    report = keras_ats.diagnose(4.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3)), labels)
    figure = keras_ats.diagnostics.plot_temperature_curves(report)
    ```
    """
    return curves(_all(report))


def plot_logits(report: Report) -> Any:
    """Draws the correct logit and the variance of the wrong ones, teacher by teacher (figure 4).

    Args:
        report: From `diagnose` of several teachers.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    ```python
    labels = np.arange(30) % 3
    small = 2.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3))
    report = keras_ats.diagnose({"small": small, "large": 4.0 * small}, labels)
    figure = keras_ats.diagnostics.plot_logits(report)
    ```
    """
    return logits(_all(report))


def plot_reliability(report: Report) -> Any:
    """Draws accuracy against confidence, one panel for each teacher.

    Bars below the diagonal: the teacher is surer than it is right.

    Args:
        report: From `diagnose`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    ```python
    labels = np.arange(30) % 3
    report = keras_ats.diagnose(4.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3)), labels)
    figure = keras_ats.diagnostics.plot_reliability(report)
    ```
    """
    return reliability(_all(report))


def plot_class_similarity(report: Report) -> Any:
    """Draws the mean soft targets of each class at the suggested temperatures: what resembles what.

    With teacher and student in the report, it shows whether the student has learned it. The
    diagonal, the correct class, is left out, so that wrong classes can be told apart.

    Args:
        report: From `diagnose`; one panel for each model.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is missing.

    Example:

    ```python
    labels = np.arange(30) % 3
    report = keras_ats.diagnose(4.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3)), labels)
    figure = keras_ats.diagnostics.plot_class_similarity(report)
    ```
    """
    found = _all(report)
    figure = new_figure(4.2 * len(found) + 0.4, 3.9)
    draw_similarity(figure, figure.subplots(1, len(found), squeeze=False)[0], found)
    return figure


def _pair(value: Any) -> _Pair:
    pair = checks.as_list(value, "temperatures", "pairs such as (4.0, 2.0)")
    if len(pair) != 2:
        raise ValueError(
            "`temperatures` must be pairs of correct and wrong temperature. Received: "
            f"temperatures with {value!r}. Expected: such as (4.0, 2.0)."
        )
    correct, wrong = (checks.temperature(one, "temperatures") for one in pair)
    return correct, wrong


def _all(report: Any) -> list[TeacherFindings]:
    if not isinstance(report, Report):
        raise TypeError(
            "`report` must come from keras_ats.diagnose(teacher, data). Received: "
            f"report={report!r} of type {type(report).__name__}."
        )
    return list(report.teachers.values())


def _one(report: Report, teacher: Any) -> TeacherFindings:
    found = {one.name: one for one in _all(report)}
    if teacher is None:
        return next(iter(found.values()))
    if not isinstance(teacher, str) or teacher not in found:
        raise ValueError(
            f"`teacher` is not in the report. Received: teacher={teacher!r}. Expected: one of "
            f"{list(found)}."
        )
    return found[teacher]


def _numbers(samples: Any, found: TeacherFindings) -> list[int]:
    given = checks.as_list(samples, "samples", "[0, 1, 2]")
    numbers = [checks.as_integer(one, "samples", minimum=0) for one in given]
    if not numbers or max(numbers) >= found.samples:
        raise ValueError(
            f"`samples` must be from 0 to {found.samples - 1}, at least one. Received: "
            f"samples={samples!r}."
        )
    return numbers


def _telling(found: TeacherFindings, pair: _Pair) -> list[int]:
    """Three samples of three classes about whose wrong classes the teacher has most to say."""
    labels = found.said.labels
    p = soft_targets(found.said, *pair)
    spread = np.nanstd(np.where(is_wrong(found.said), p, np.nan), axis=-1)
    # The most telling ones among those whose own class stays on top.
    telling = spread + 1.0 * (p.argmax(-1) == labels)
    best: dict[int, int] = {}
    for index in np.argsort(-telling, kind="stable"):
        best.setdefault(int(labels[index]), int(index))
    return list(best.values())[:3]
