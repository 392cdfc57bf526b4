"""The figures of docs/results.md."""

import statistics
from typing import Any

import numpy as np

from keras_ats.diagnostics import plot_capacity, plot_temperature_map
from keras_ats.diagnostics.style import clean, look, new_figure
from study.findings import Findings, interval
from study.tables import MEASURES, TITLES, method_gains, points, regrets

NAMES = (
    "results_curves",
    "results_explanations",
    "results_rules",
    "results_methods",
    "results_deployment",
    "results_capacity_clinc150",
    "results_capacity_banking77",
    "results_map_clinc150",
    "results_map_banking77",
)
BUDGETS = {1: "-", 2: ":"}


def all_figures(found: Findings) -> dict[str, Any]:
    """All figures by the names of their files."""
    made = {
        "results_curves": curves(found),
        "results_explanations": explanations(found),
        "results_rules": rules(found),
        "results_methods": methods(found),
        "results_deployment": deployment(found),
    }
    for data in found.data:
        made[f"results_capacity_{data}"] = capacity(found, data)
        made[f"results_map_{data}"] = temperature_map(found, data)
    return made


def curves(found: Findings) -> Any:
    """Labels alone on validation data, at the budget of all and at twice that."""
    figure = new_figure(8.6, 3.4)
    for axes, data in zip(figure.subplots(1, len(found.data)), found.data, strict=True):
        for index, (size, title) in enumerate({"few": "20 a class", "full": "all"}.items()):
            for budget, style in BUDGETS.items():
                values = found.curve(data, budget, size)
                label = title + ("" if budget == 1 else ", twice the budget")
                axes.plot(
                    range(1, len(values) + 1),
                    values,
                    style,
                    color=look(index)["color"],
                    label=label,
                )
        clean(axes, TITLES[data], "epoch", "validation accuracy, %")
        axes.legend(fontsize=8, frameon=False)
    return figure


def capacity(found: Findings, data: str) -> Any:
    """Students at temperatures chosen on validation data, over their teachers' parameters."""
    values = {
        method: [
            statistics.mean(found.chosen_plain(data, teacher, method).test)
            for teacher in found.ladder
        ]
        for method in ("one temperature", "ATS")
    }
    sizes = [found.teacher(data, teacher)[0]["parameters"] / 1e6 for teacher in found.ladder]
    figure = plot_capacity(
        sizes,
        {"student": values["one temperature"]},
        {"student": values["ATS"]},
        "test accuracy of the student, %",
    )
    (axes,) = figure.axes
    axes.set(title=TITLES[data], xlabel="parameters of the teacher, millions", xscale="log")
    return figure


def temperature_map(found: Findings, data: str) -> Any:
    """Gain over labels alone on test data at all pairs, from the large teacher."""
    alone = found.alone(data)
    gains = {
        pair: found.gap(one, alone).mean for pair, one in found.grid(data, found.large).items()
    }
    figure = plot_temperature_map(gains, "gain over labels alone, points")
    figure.axes[0].set_title(f"{TITLES[data]}, from {found.large}", fontsize=10)
    return figure


def explanations(found: Findings) -> Any:
    """The gain over each measure, a point for each teacher and pair of temperatures."""
    figure = new_figure(11, 4.8)
    panels = figure.subplots(len(found.data), len(MEASURES), sharey="row")
    for row, data in zip(panels, found.data, strict=True):
        made = points(found, data)
        for axes, (name, title) in zip(row, MEASURES.items(), strict=True):
            for index, teacher in enumerate(found.ladder):
                own = [one for one in made if one["teacher"] == teacher]
                axes.plot(
                    [one[name] for one in own],
                    [one["gains"].mean() for one in own],
                    linestyle="",
                    markersize=4,
                    label=teacher,
                    **look(index),
                )
            is_last = data == found.data[-1]
            gain = f"{TITLES[data]}: gain, points" if name == next(iter(MEASURES)) else ""
            clean(axes, "", title if is_last else "", gain)
            axes.tick_params(labelsize=7)
            axes.locator_params(axis="x", nbins=4)
    panels[0][-1].legend(fontsize=7, frameon=False, title="teacher", title_fontsize=7)
    return figure


def rules(found: Findings) -> Any:
    """Regret of each rule, with its interval."""
    by_data = {data: regrets(found, data) for data in found.data}
    order = sorted(
        by_data[found.data[0]],
        key=lambda title: -sum(by_data[data][title].mean() for data in found.data),
    )
    values = {data: {title: interval(by_data[data][title]) for title in order} for data in by_data}
    label = "regret against the best pair on validation data, points"
    return _dots(order, values, label, legend="upper right")


def methods(found: Findings) -> Any:
    """Gain of each method, with its interval."""
    by_data = {data: method_gains(found, data) for data in found.data}
    order = sorted(
        by_data[found.data[0]],
        key=lambda method: sum(by_data[data][method][1].mean for data in found.data),
    )
    values = {data: {method: made[method][1] for method in order} for data, made in by_data.items()}
    label = f"gain over labels alone from {found.large}, points"
    return _dots(order, values, label, legend="lower right")


def deployment(found: Findings) -> Any:
    """CLINC150: accuracy over the size of the int8 file, few sentences for the students."""
    data = found.data[0]
    figure = new_figure(5.6, 3.6)
    axes = figure.subplots()

    def size(name: str) -> float:
        return found.deployed[name]["int8"]["bytes"] / 1000

    names = list(found.config["students"])
    sizes = [size(f"student {name}, ATS") for name in names]
    for index, (title, of) in enumerate(
        {
            "student, labels alone": found.alone,
            "student, ATS from the large teacher": lambda data, **where: found.chosen(
                data, "ATS", found.large, **where
            ),
        }.items()
    ):
        tests = [statistics.mean(of(data, size="few", student=name).test) for name in names]
        axes.plot(sizes, tests, "--", label=title, **look(index))
    tests = [
        100 * statistics.mean(line["test"] for line in found.teacher(data, name))
        for name in found.ladder
    ]
    axes.plot([size(name) for name in found.ladder], tests, label="teachers", **look(2))
    axes.set_xscale("log")
    clean(axes, TITLES[data], "kB in LiteRT, int8 weights", "test accuracy, %")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _dots(order: list[str], values: dict[str, dict[str, Any]], label: str, *, legend: str) -> Any:
    figure = new_figure(7.4, 0.3 * len(order) + 1.2)
    axes = figure.subplots()
    for index, (data, of) in enumerate(values.items()):
        places = np.arange(len(order)) + 0.16 * (0.5 - index)
        for place, title in zip(places, order, strict=True):
            one, color = of[title], look(index)["color"]
            axes.plot([one.low, one.high], [place] * 2, color=color, linewidth=1.5)
            name = TITLES[data] if title == order[0] else None
            axes.plot([one.mean], [place], linestyle="", label=name, **look(index))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set(yticks=range(len(order)), yticklabels=[title.replace("`", "") for title in order])
    clean(axes, "", label)
    axes.legend(fontsize=8, frameon=False, loc=legend)
    return figure
