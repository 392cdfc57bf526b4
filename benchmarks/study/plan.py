"""Which students are trained, in the order in which they are."""

from collections.abc import Iterator
from typing import Any

from study.findings import RULES
from study.lines import Lines
from study.teaching import run_of


def students(data: str, seed: int, config: dict[str, Any], lines: Lines) -> Iterator[dict]:
    """All students of a data set and a seed; `lines` must have the seed's teachers."""
    plan, large = config["teachers"], config["teachers"]["large"]
    first, second = config["students"]
    base = {"role": "student", "data": data, "seed": seed}
    few, full = {"size": "few", "student": first}, {"size": "full", "student": first}
    alone = {"method": "labels alone", "teacher": None, "setting": {}}
    yield base | few | alone
    yield base | few | alone | {"setting": {"budget": 2}}
    for one in config["rivals"]["label smoothing"]:
        yield base | few | {"method": "label smoothing", "teacher": None, "setting": one}
    swept = [*plan["networks"], *config["beside_the_ladder"]]
    for teacher in swept:
        for method, pair in grid(config):
            yield base | few | {"method": method, "teacher": teacher, "setting": {"pair": pair}}
    for teacher in swept:
        for rule in RULES:
            pair = pair_of(rule, data, teacher, seed, config, lines)
            setting = {"pair": [round(value, 3) for value in pair]}
            yield base | few | {"method": rule, "teacher": teacher, "setting": setting}
        for one in config["rivals"]["NormKD"]:
            yield base | few | {"method": "NormKD", "teacher": teacher, "setting": one}
    for method, settings in config["rivals"].items():
        if method not in ("label smoothing", "NormKD"):
            for one in settings:
                yield base | few | {"method": method, "teacher": large, "setting": one}
    small = next(iter(plan["networks"]))
    for elsewhere in (few | {"student": second}, full):
        yield base | elsewhere | alone
        yield from (
            base
            | elsewhere
            | {
                "method": "one temperature" if pair[0] == pair[1] else "ATS",
                "teacher": teacher,
                "setting": {"pair": pair},
            }
            for teacher in (small, large)
            for pair in config["elsewhere"]
        )
    yield base | full | alone | {"setting": {"budget": 2}}


def grid(config: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Methods and pairs of the sweep over temperatures."""
    return [("one temperature", [one, one]) for one in config["one_temperature"]] + [
        ("ATS", pair) for pair in config["pairs"]
    ]


def pair_of(
    rule: str, data: str, teacher: str, seed: int, config: dict[str, Any], lines: Lines
) -> list[float]:
    """The pair of temperatures that a rule finds in what a teacher said of validation data."""

    def of(name: str) -> dict[str, Any]:
        return lines.line_of(run_of(data, name, seed))["on_validation"]

    if rule in ("suggested", "unit spread"):
        return of(teacher)[rule.replace(" ", "_")]
    if rule == "calibrated":
        return [of(teacher)["calibrated"]] * 2
    # All teachers as sure as the smallest is at 4.
    small = next(iter(config["teachers"]["networks"]))
    return [4.0 * of(teacher)["maximum"] / of(small)["maximum"]] * 2
