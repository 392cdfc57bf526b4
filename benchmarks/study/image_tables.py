"""The tables and the figure of docs/results.md on images."""

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ats.diagnostics.style import clean, look, new_figure
from study.findings import interval
from study.lines import key_of
from study.tables import said_of, spread, table

ALONE = "labels alone", None


class ImageFindings:
    """The finished runs on images.

    Args:
        lines: What was written; each row of a table counts the seeds that it has.
        config: Of the study.
    """

    def __init__(self, lines: list[dict[str, Any]], config: dict[str, Any]) -> None:
        self.config = config
        self._lines = {key_of(line["run"]): line for line in lines}
        (self.data,) = config["data"]

    def __len__(self) -> int:
        return len(self._lines)

    def teacher(self, name: str) -> list[dict[str, Any]]:
        """The lines of a teacher, by seed."""
        runs = (
            {"role": "teacher", "data": self.data, "teacher": name, "seed": seed}
            for seed in self.config["seeds"]
        )
        return [self._lines[key] for key in map(key_of, runs) if key in self._lines]

    def student(self, method: str, teacher: str | None, setting: Any) -> dict[int, dict[str, Any]]:
        """The lines of a student, by seed."""
        run = {"role": "student", "data": self.data}
        run |= {"method": method, "teacher": teacher, "setting": setting}
        keys = {seed: key_of(run | {"seed": seed}) for seed in self.config["seeds"]}
        return {seed: self._lines[key] for seed, key in keys.items() if key in self._lines}

    def students(self) -> Iterator[tuple[str, str | None, Any, dict[int, dict[str, Any]]]]:
        """Method, teacher, setting and lines of every student that there is, as planned."""
        for block in self.config["runs"]:
            for method, teacher, setting in block:
                if lines := self.student(method, teacher, setting):
                    yield method, teacher, setting, lines

    def alone(self) -> dict[int, dict[str, Any]]:
        """Labels alone, at the budget of all others."""
        return self.student(*ALONE, {})


def all_tables(found: ImageFindings) -> dict[str, str]:
    """All tables by name."""
    return {
        "image ladder": ladder(found),
        "image students": students(found),
        "image differences": differences(found),
    }


def ladder(found: ImageFindings) -> str:
    rows = []
    for name in found.config["teachers"]["networks"]:
        if lines := found.teacher(name):
            of = [line["on_validation"] for line in lines]
            pairs = [one["suggested"] for one in of]
            correct, wrong = (statistics.mean(pair[place] for pair in pairs) for place in (0, 1))
            rows.append(
                [
                    name,
                    f"{lines[0]['parameters']:,}",
                    len(lines),
                    spread([100 * line["test"] for line in lines]),
                    f"{statistics.mean(100 * line['train'] for line in lines):.1f}",
                    f"{statistics.mean(one['wrong_spread'] for one in of):.2f}",
                    f"{statistics.mean(one['calibrated'] for one in of):.2f}",
                    f"{correct:.1f}, {wrong:.1f}",
                ]
            )
    header = ["network", "parameters", "seeds", "test accuracy", "on training images"]
    return table([*header, "spread of wrong logits", "best likelihood at", "suggested"], rows)


def students(found: ImageFindings) -> str:
    alone = found.alone()
    rows = []
    for method, teacher, setting, lines in found.students():
        both = [seed for seed in lines if seed in alone]
        gains = [100 * (lines[seed]["test"] - alone[seed]["test"]) for seed in both]
        rows.append(
            [
                method,
                teacher or "",
                said_of(setting | {"pair": mean_pair(lines)} if method == "suggested" else setting),
                len(lines),
                spread([100 * line["test"] for line in lines.values()]),
                gain_of(gains) if lines != alone else "",
            ]
        )
    return table(["method", "teacher", "setting", "seeds", "test", "over labels alone"], rows)


def differences(found: ImageFindings) -> str:
    """Two students that differ in one thing."""
    small, large = "ResNet-8", found.config["teachers"]["large"]
    one, sharp, asymmetric = {"pair": [4, 4]}, {"pair": [2, 2]}, {"pair": [4, 2]}
    much = {"kd_weight": 0.9}
    plain = "one temperature"
    compared = {
        f"(4, 2) instead of 4, from {small}": (("ATS", small, asymmetric), (plain, small, one)),
        f"(4, 2) instead of 4, from {large}": (("ATS", large, asymmetric), (plain, large, one)),
        f"(4, 2) instead of 4, from {large}, kd_weight 0.9": (
            ("ATS", large, asymmetric | much),
            (plain, large, one | much),
        ),
        f"{large} instead of {small}, at 2": ((plain, large, sharp), (plain, small, sharp)),
        f"{large} instead of {small}, at 4": ((plain, large, one), (plain, small, one)),
        f"{large} instead of {small}, at (4, 2)": (
            ("ATS", large, asymmetric),
            ("ATS", small, asymmetric),
        ),
        f"kd_weight 0.9 instead of 0.5, from {large} at 4": (
            (plain, large, one | much),
            (plain, large, one),
        ),
    }
    rows = []
    for title, pair in compared.items():
        first, second = (found.student(*each) for each in pair)
        both = sorted(first.keys() & second.keys())
        gains = [100 * (first[seed]["test"] - second[seed]["test"]) for seed in both]
        rows.append([title, len(both), gain_of(gains)])
    return table(["what", "seeds", "points"], rows)


def mean_pair(lines: dict[int, dict[str, Any]]) -> list[float]:
    """The pair that a rule chose, mean over seeds."""
    pairs = [line["pair"] for line in lines.values()]
    return [round(statistics.mean(values), 1) for values in zip(*pairs, strict=True)]


def gain_of(gains: list[float]) -> str:
    """Mean over seeds with its interval, where there is more than one."""
    return str(interval(gains)) if len(gains) > 1 else f"{gains[0]:+.2f}" if gains else ""


def curve(found: ImageFindings) -> Any:
    """Labels alone on validation images, at the budget of all and at twice that."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    budgets = {"40 epochs": found.alone(), "80 epochs": found.student(*ALONE, {"budget": 2})}
    shown = {title: lines for title, lines in budgets.items() if lines}
    # Seeds differ by more than budgets do.
    seeds = set.intersection(*map(set, shown.values())) if shown else set()
    for index, (title, lines) in enumerate(shown.items()):
        values = 100 * np.mean([lines[seed]["curve"] for seed in seeds], axis=0)
        color = look(index)["color"]
        axes.plot(range(1, len(values) + 1), values, color=color, label=title)
    clean(axes, "CIFAR-10, half the resolution", "epoch", "validation accuracy, %")
    axes.legend(fontsize=8, frameon=False)
    return figure
