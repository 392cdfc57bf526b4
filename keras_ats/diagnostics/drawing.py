"""The panels that figures and the report's page are made of."""

from typing import Any

import numpy as np

from keras_ats.diagnostics.findings import TeacherFindings
from keras_ats.diagnostics.style import COLORS, GREY, clean, look, new_figure, short


def overview(found: list[TeacherFindings]) -> Any:
    """Draws all of it in one figure: logits, curves and reliability."""
    figure = new_figure(11, 10)
    rows = figure.subfigures(3, 1)
    draw_logits(rows[0].subplots(1, 2), found)
    draw_curves(rows[1].subplots(1, 2), found)
    for axes, one in zip(rows[2].subplots(1, len(found), squeeze=False)[0], found, strict=True):
        draw_reliability(axes, one)
    return figure


def logits(found: list[TeacherFindings]) -> Any:
    """Draws correct logit and variance of the wrong ones."""
    figure = new_figure(max(6.5, 1.6 * len(found) + 4), 3.2)
    draw_logits(figure.subplots(1, 2), found)
    return figure


def curves(found: list[TeacherFindings]) -> Any:
    """Draws derived average and deviation against temperature."""
    figure = new_figure(11, 3.4)
    draw_curves(figure.subplots(1, 2), found)
    return figure


def reliability(found: list[TeacherFindings]) -> Any:
    """Draws accuracy against confidence, one panel for each."""
    figure = new_figure(3.4 * len(found), 3.4)
    for axes, one in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        draw_reliability(axes, one)
    return figure


def similarity(one: TeacherFindings) -> Any:
    """Draws what resembles what, for one teacher."""
    figure = new_figure(5.4, 4.6)
    draw_similarity(figure, [figure.subplots()], [one])
    return figure


def draw_curves(panels: Any, found: list[TeacherFindings]) -> None:
    """Draws derived average and deviation against temperature, on two axes."""
    for axes, name, title in zip(
        panels,
        ("derived_average", "derived_deviation"),
        ("derived average e(q)", "derived deviation, root of v(q)"),
        strict=True,
    ):
        for index, one in enumerate(found):
            x = [each.wrong_temperature for each in one.one_temperature]
            for curve, style in ((one.one_temperature, "-"), (one.ats, "--")):
                label = f"{short(one.name)}, {'one temperature' if style == '-' else 'ATS'}"
                values = [getattr(each, name) for each in curve]
                axes.plot(x, values, style, label=label, markersize=4, **look(index))
        clean(axes, title, "temperature; ATS: 1.25 and 0.75 times it")
        axes.set_ylim(0)
    # Beside the curves, of which there may be many; long enough to tell solid from dashed.
    panels[1].legend(
        fontsize=8, frameon=False, handlelength=4, loc="center left", bbox_to_anchor=(1.02, 0.5)
    )


def draw_logits(panels: Any, found: list[TeacherFindings]) -> None:
    """Draws correct logit and variance of the wrong ones, on two axes."""
    names = [short(one.name) for one in found]
    for axes, values, title in zip(
        panels,
        ([one.correct_logit for one in found], [one.wrong_spread**2 for one in found]),
        ("correct logit, over the mean of the wrong ones", "variance of the wrong logits"),
        strict=True,
    ):
        bars = axes.bar(names, values, color=COLORS[0], width=0.6)
        axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=2)
        clean(axes, title)
        axes.margins(y=0.15)


def draw_reliability(axes: Any, one: TeacherFindings) -> None:
    """Draws accuracy against confidence."""
    confidence, accuracy, count = one.calibration.bins.T
    axes.bar(confidence, accuracy, width=0.05, color=COLORS[0], label="accuracy")
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    axes.bar(
        confidence,
        -0.12 * count / count.max(),
        width=0.05,
        color=GREY,
        label="samples",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    title = f"{short(one.name, 26)}: ECE {one.calibration.error:.3f}"
    clean(axes, title, "confidence", "accuracy (grey: samples)")
    axes.set(xlim=(0, 1.03), ylim=(-0.14, 1.03), yticks=np.linspace(0, 1, 6))


def draw_similarity(figure: Any, panels: Any, found: list[TeacherFindings]) -> None:
    """Draws the mean soft targets of each class but the correct one, on the same scale."""
    matrices = []
    for one in found:
        matrix = one.similarity.copy()
        np.fill_diagonal(matrix, np.nan)
        matrices.append(matrix)
    highest = max(float(np.nanmax(matrix)) for matrix in matrices)
    image = None
    for axes, one, matrix in zip(panels, found, matrices, strict=True):
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=highest)
        clean(axes, short(one.name, 30), "class in the soft targets", "label")
        if one.classes <= 20:
            axes.set(xticks=range(one.classes), yticks=range(one.classes))
    figure.colorbar(image, ax=list(panels), label="mean probability", shrink=0.8)
