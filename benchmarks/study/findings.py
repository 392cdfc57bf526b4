"""What the lines say: choices made on validation data, differences by seed, intervals."""

import functools
import itertools
import statistics
from typing import Any, NamedTuple

import numpy as np

# Methods whose temperatures a rule has chosen.
RULES = ("suggested", "unit spread", "calibrated", "equal maximum")

Values = tuple[float, ...]


class Interval(NamedTuple):
    """A mean over seeds, in points, with its bootstrap interval and deviation."""

    mean: float
    low: float
    high: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


class Found(NamedTuple):
    """The runs of one setting, seed by seed, in percent."""

    setting: dict[str, Any]
    validation: Values
    test: Values


def interval(values: Any) -> Interval:
    """Mean and percentile interval, 95 %, over all resamples of the seeds.

    With up to five seeds there are at most 3,125 resamples: all of them, so nothing is drawn.
    """
    values = np.asarray(values, "float64")
    picks = np.array(list(itertools.product(range(len(values)), repeat=len(values))))
    means = values[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return Interval(float(values.mean()), float(low), float(high), deviation)


class Findings:
    """The finished runs of a study.

    Args:
        lines: What was written; a seed of which a run is missing is left out of its data set.
        config: Of the study.
        deployed: Size and time of each network.
    """

    def __init__(
        self, lines: list[dict[str, Any]], config: dict[str, Any], deployed: dict[str, Any]
    ) -> None:
        self.config, self.deployed = config, deployed
        self.lines = lines
        self.large = config["teachers"]["large"]
        self.ladder = list(config["teachers"]["networks"])
        # Of another family: no step of the ladder, and in no statement on capacity.
        self.beside = list(config["beside_the_ladder"])
        self.data = list(config["data"])
        self.students = [line for line in lines if line["run"]["role"] == "student"]
        self._teachers = {
            (run["data"], run["teacher"], run["seed"]): line
            for line in lines
            if (run := line["run"])["role"] == "teacher"
        }
        counts: dict[tuple[str, int], int] = {}
        for line in self.students:
            place = line["run"]["data"], line["run"]["seed"]
            counts[place] = counts.get(place, 0) + 1
        whole = max(counts.values(), default=0)
        self.seeds = {
            data: [seed for seed in config["seeds"] if counts.get((data, seed)) == whole]
            for data in self.data
        }

    def teacher(self, data: str, name: str) -> list[dict[str, Any]]:
        """The lines of a teacher, by seed."""
        return [self._teachers[data, name, seed] for seed in self.seeds[data]]

    @functools.cache  # noqa: B019 - there is one
    def _by_seed(self, data: str, size: str, student: str) -> dict[tuple[str, str], dict]:
        """Lines by method and teacher, then by setting, then by seed."""
        found: dict[tuple[str, str], dict] = {}
        for line in self.students:
            run = line["run"]
            if (run["data"], run["size"], run["student"]) == (data, size, student):
                setting = run["setting"]
                # A rule's pair is another with each seed's teacher, and the same setting.
                key = "" if run["method"] in RULES else str(sorted(setting.items()))
                settings = found.setdefault((run["method"], str(run["teacher"])), {})
                settings.setdefault(key, {})[run["seed"]] = line
        return found

    def all_of(
        self, data: str, method: str, teacher: str | None, size: str = "few", student: str = ""
    ) -> list[Found]:
        """Every setting of a method that all seeds have."""
        student = student or next(iter(self.config["students"]))
        settings = self._by_seed(data, size, student).get((method, str(teacher)), {})
        seeds = self.seeds[data]
        return [
            Found(
                lines[seeds[0]]["run"]["setting"],
                tuple(100 * lines[seed]["validation"] for seed in seeds),
                tuple(100 * lines[seed]["test"] for seed in seeds),
            )
            for lines in settings.values()
            if all(seed in lines for seed in seeds)
        ]

    def chosen(self, data: str, method: str, teacher: str | None, **where: str) -> Found:
        """The setting of a method that is best on validation data, on average over seeds."""
        found = self.all_of(data, method, teacher, **where)
        return max(found, key=lambda one: statistics.mean(one.validation))

    def chosen_plain(self, data: str, teacher: str, method: str) -> Found:
        """The same among the pairs of the sweep, at the usual weights."""
        return max(
            (
                one
                for pair, one in self.grid(data, teacher).items()
                if (pair[0] == pair[1]) == (method == "one temperature")
            ),
            key=lambda one: statistics.mean(one.validation),
        )

    def alone(self, data: str, **where: str) -> Found:
        """Labels alone, at the budget of all others."""
        found = self.all_of(data, "labels alone", None, **where)
        return next(one for one in found if not one.setting)

    def at(self, data: str, method: str, teacher: str, pair: list[float], **where: str) -> Found:
        """A method at a pair of temperatures."""
        found = self.all_of(data, method, teacher, **where)
        return next(one for one in found if one.setting == {"pair": pair})

    def gap(self, one: Found, other: Found) -> Interval:
        """Differences on test data, seed by seed."""
        return interval(np.subtract(one.test, other.test))

    def grid(self, data: str, teacher: str) -> dict[tuple[float, float], Found]:
        """All pairs of temperatures of the sweep."""
        return {
            tuple(one.setting["pair"]): one
            for method in ("one temperature", "ATS")
            for one in self.all_of(data, method, teacher)
            if set(one.setting) == {"pair"}
        }

    def softened(self, data: str, teacher: str, pair: tuple[float, float], name: str) -> float:
        """A measure of soft targets on training sentences, mean over seeds."""
        key = f"{pair[0]:g}, {pair[1]:g}"
        return statistics.mean(
            line["on_train"]["softened"][key][name] for line in self.teacher(data, teacher)
        )

    def curve(self, data: str, budget: int, size: str = "few") -> np.ndarray:
        """Accuracy on validation data after each epoch, from labels alone: mean over seeds."""
        first = next(iter(self.config["students"]))
        setting = {} if budget == 1 else {"budget": budget}
        rows = [
            line["curve"]
            for line in self.students
            if line["run"]["method"] == "labels alone"
            and (line["run"]["data"], line["run"]["size"]) == (data, size)
            and (line["run"]["student"], line["run"]["setting"]) == (first, setting)
            and line["run"]["seed"] in self.seeds[data]
        ]
        return 100 * np.mean(rows, axis=0)
