"""Tables of finished runs."""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cifar_experiment import records
from keras_ats import files

ALONE = "labels alone"
SHARED = ("dataset", "train images", "epochs", "seeds")


def run(options: argparse.Namespace) -> None:
    """Prints one row per experiment: last-epoch test accuracy, mean and deviation over seeds."""
    runs = find_runs(options.runs)
    rows = summarise(runs)
    if not rows:
        raise ValueError(f"No finished run in {', '.join(map(str, options.runs))}.")
    table = Table(title="Test accuracy of the last epoch, %: mean ± standard deviation over seeds")
    # What all rows have in common is a line, not a column.
    common = [name for name in SHARED if len({row[name] for row in rows}) == 1]
    table.caption = "Gain: over the same network on labels alone, seed by seed."
    if common:
        table.caption += " All: " + ", ".join(f"{name} {rows[0][name]}" for name in common) + "."
    headings = ["network", "method", "temperatures", "teacher"]
    headings += [name for name in SHARED if name not in common]
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for heading in ("accuracy", "gain"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(str(row[name]) for name in (*headings, "accuracy", "gain")))
    Console().print(table)
    if options.json:
        with files.whole_file(options.json) as unfinished:
            unfinished.write_text(json.dumps({"rows": rows, "runs": runs}, indent=2) + "\n")


def find_runs(paths: list[Path]) -> list[dict[str, Any]]:
    """Configuration, versions and result of every finished run in or under the folders."""
    remedy = "Repeat that run, or leave its folder out."
    return [
        records.read(file.parent / "config.json", remedy) | {"result": records.read(file, remedy)}
        for file in sorted(file for path in paths for file in path.rglob("result.json"))
    ]


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per set of runs that differ in their seed only."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in runs:
        # A teacher of another seed is another file under another name: not another experiment.
        shared = {k: v for k, v in one["config"].items() if k not in ("seed", "teacher_file")}
        if "teacher" in shared:
            shared["teacher"] = shared["teacher"].rpartition("-seed")[0] or shared["teacher"]
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(one)
    return [_row(json.loads(key), group, runs) for key, group in sorted(groups.items())]


def _row(
    config: dict[str, Any], runs: list[dict[str, Any]], all_runs: list[dict[str, Any]]
) -> dict[str, Any]:
    runs = sorted(runs, key=lambda one: one["config"]["seed"])
    percents = [_percent(one) for one in runs]
    gains = [] if config["method"] == ALONE else _gains(runs, all_runs)
    pair = config.get("temperatures")
    return {
        "network": config["network"],
        "method": config["method"],
        "temperatures": ", ".join(f"{value:g}" for value in pair) if pair else "",
        "teacher": config.get("teacher", ""),
        "dataset": config["dataset"],
        "train images": runs[0]["result"]["train_images"],
        "epochs": config["epochs"],
        "seeds": len(runs),
        "accuracy": mean_and_deviation(percents),
        "accuracies": percents,
        "gain": mean_and_deviation(gains, sign="+") if gains else "",
        "gains": gains,
    }


def _gains(runs: list[dict[str, Any]], all_runs: list[dict[str, Any]]) -> list[float]:
    """Each run's points over the run without a teacher that has all its other options and its seed.

    Empty where one of them has no such run.
    """
    alone = [one for one in all_runs if one["config"]["method"] == ALONE]
    gains = []
    for run in runs:
        options = {**run["config"], "method": ALONE}.items()
        same = [one for one in alone if one["config"].items() <= options]
        if not same:
            return []
        gains.append(round(_percent(run) - _percent(same[0]), 3))
    return gains


def _percent(run: dict[str, Any]) -> float:
    return round(100 * float(run["result"]["test_accuracy"]), 3)


def print_sweep(accuracies: dict[tuple[float, float], list[float]]) -> None:
    """Prints mean validation accuracies as a grid, and the best pair."""
    correct_temperatures = sorted({correct for correct, _ in accuracies})
    wrong_temperatures = sorted({wrong for _, wrong in accuracies})
    table = Table(title="Validation accuracy of the last epoch, %, mean over seeds")
    table.add_column("correct \\ wrong")
    for wrong in wrong_temperatures:
        table.add_column(f"{wrong:g}")
    means = {pair: 100 * statistics.mean(values) for pair, values in accuracies.items()}
    for correct in correct_temperatures:
        cells = (f"{means[correct, wrong]:.2f}" for wrong in wrong_temperatures)
        table.add_row(f"{correct:g}", *cells)
    Console().print(table)
    best = max(means, key=lambda pair: means[pair])
    print(
        "Best on validation images: --correct-temperature {:g} --wrong-temperature {:g}. ".format(
            *best
        )
        + "For a test accuracy, train with these on the whole train split with `distill`."
    )


def mean_and_deviation(values: list[float], sign: str = "") -> str:
    """`mean ± standard deviation`; of a single value only the value. `sign="+"` shows a plus."""
    mean = f"{statistics.mean(values):{sign}.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"
