"""The tables of docs/results.md."""

import statistics
from typing import Any

import numpy as np

from study.findings import Findings, Found, interval

TITLES = {"clinc150": "CLINC150", "banking77": "Banking77"}
MEASURES = {
    "derived_average": "derived average",
    "derived_deviation": "derived deviation",
    "inherent_variance": "inherent variance",
    "entropy": "entropy",
    "correct_share": "share of the correct class",
}
OF_TEACHERS = {"test": "teacher's accuracy", "calibration_error": "teacher's calibration error"}
RULES = {
    "suggested": "`suggest_temperatures`",
    "unit spread": "spread 1, share 1/4",
    "calibrated": "best likelihood on validation data",
    "equal maximum": "as sure as the small teacher is at 4",
}


def all_tables(found: Findings) -> dict[str, str]:
    """All tables by name."""
    return {
        "runs": runs(found),
        "ladder": ladder(found),
        "larger": larger(found),
        "asymmetric": asymmetric(found),
        "beside": beside(found),
        "beside and ladder": beside_and_ladder(found),
        "explanations": explanations(found),
        "rules": rules(found),
        "methods": methods(found),
        "elsewhere": elsewhere(found),
        "deployment": deployment(found),
    }


def readme(found: Findings) -> str:
    """The lines of README.md."""
    large, ladder = found.large, found.ladder

    def both(of: Any) -> str:
        return " and ".join(f"{of(data)} on {TITLES[data]}" for data in found.data)

    def tuned(data: str, method: str, teacher: str) -> Found:
        return found.chosen_plain(data, teacher, method)

    gain = both(lambda data: found.gap(tuned(data, "ATS", large), found.alone(data)))
    ats = both(
        lambda data: found.gap(tuned(data, "ATS", large), tuned(data, "one temperature", large))
    )
    published = both(
        lambda data: found.gap(
            found.at(data, "ATS", large, [4, 2]), tuned(data, "one temperature", large)
        )
    )
    larger = both(
        lambda data: found.gap(
            tuned(data, "one temperature", large), tuned(data, "one temperature", ladder[0])
        )
    )

    def weighted(data: str) -> str:
        chosen, gain = method_gains(found, data)["one temperature"]
        return f"{gain} ({pair_of(chosen)})"

    weight = both(weighted)
    return "\n".join(
        [
            f"- A student with few sentences gains much from a teacher: under ATS {gain}.",
            f"- ATS against one temperature, both tuned: {ats}; at the published (4, 2) against a "
            f"tuned one: {published}.",
            f"- The largest teacher against the smallest, one temperature, tuned: {larger}. More "
            f"than two temperatures brings one, when the teacher's weight is tuned too: {weight} "
            "over labels alone.",
        ]
    )


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values: Any) -> str:
    """Mean and deviation over seeds."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def pair_of(one: Found) -> str:
    """What a chosen setting says."""
    return said_of(one.setting)


def said_of(setting: dict[str, Any]) -> str:
    """The temperatures of a setting, then what else it says."""
    others = dict(setting)
    pair = others.pop("pair", None)
    parts = [] if pair is None else [", ".join(f"{value:g}" for value in dict.fromkeys(pair))]
    return "; ".join([*parts, *(f"{name} {value:g}" for name, value in others.items())])


def runs(found: Findings) -> str:
    rows = []
    for data in found.data:
        of = [line for line in found.lines if line["run"]["data"] == data]
        students = [line for line in of if line["run"]["role"] == "student"]
        seconds = statistics.median(line["cpu_seconds"] for line in students)
        rows.append(
            [
                TITLES[data],
                len(students),
                len(of) - len(students),
                len(found.seeds[data]),
                f"{seconds:.1f}",
            ]
        )
    return table(["data", "students", "teachers", "whole seeds", "seconds a student, median"], rows)


def ladder(found: Findings) -> str:
    rows = []
    for data in found.data:
        for name in [*found.ladder, "early"]:
            lines = found.teacher(data, name)
            rows.append(
                [
                    TITLES[data],
                    "512-512, stopped early" if name == "early" else name,
                    *_about(lines),
                ]
            )
        rows.append(
            [TITLES[data], "student, labels alone", "", spread(found.alone(data).test)] + [""] * 2
        )
    return table(
        [
            "data",
            "network",
            "parameters",
            "test accuracy",
            "spread of wrong logits",
            "best likelihood at",
        ],
        rows,
    )


def larger(found: Findings) -> str:
    rows = []
    for data in found.data:
        small = {}
        for name in found.ladder:
            tuned = found.chosen_plain(data, name, "one temperature")
            sharp, fixed = (found.at(data, "one temperature", name, [one, one]) for one in (2, 4))
            small = small or {"tuned": tuned, "sharp": sharp, "fixed": fixed}
            is_first = name == found.ladder[0]
            rows.append(
                [
                    TITLES[data],
                    name,
                    spread(sharp.test),
                    "" if is_first else found.gap(sharp, small["sharp"]),
                    spread(fixed.test),
                    "" if is_first else found.gap(fixed, small["fixed"]),
                    f"{spread(tuned.test)} ({pair_of(tuned)})",
                    "" if is_first else found.gap(tuned, small["tuned"]),
                    found.gap(tuned, found.alone(data)),
                ]
            )
    return table(
        [
            "data",
            "teacher",
            "student at 2",
            "over the smallest teacher's",
            "student at 4",
            "over the smallest teacher's",
            "student, tuned (temperature)",
            "over the smallest teacher's",
            "over labels alone",
        ],
        rows,
    )


def asymmetric(found: Findings) -> str:
    rows = []
    for data in found.data:
        first = None
        for name in found.ladder:
            one = found.chosen_plain(data, name, "one temperature")
            ats = found.chosen_plain(data, name, "ATS")
            published = found.at(data, "ATS", name, [4, 2])
            four = found.at(data, "one temperature", name, [4, 4])
            first = first or ats
            rows.append(
                [
                    TITLES[data],
                    name,
                    f"{spread(ats.test)} ({pair_of(ats)})",
                    found.gap(ats, one),
                    found.gap(published, four),
                    found.gap(published, one),
                    "" if name == found.ladder[0] else found.gap(ats, first),
                ]
            )
    return table(
        [
            "data",
            "teacher",
            "student under ATS, tuned (pair)",
            "tuned ATS - tuned one",
            "(4, 2) - one at 4",
            "(4, 2) - tuned one",
            "ATS: over the smallest teacher's",
        ],
        rows,
    )


def beside(found: Findings) -> str:
    """Teachers of another family, and their students."""
    rows = []
    for data in found.data:
        for name in found.beside:
            lines = found.teacher(data, name)
            one, ats = (
                found.chosen_plain(data, name, method) for method in ("one temperature", "ATS")
            )
            rows.append(
                [
                    TITLES[data],
                    name,
                    *_about(lines),
                    f"{spread(one.test)} ({pair_of(one)})",
                    f"{spread(ats.test)} ({pair_of(ats)})",
                    found.gap(one, found.alone(data)),
                    found.gap(ats, one),
                    interval(regrets(found, data, [name])[RULES["suggested"]]),
                ]
            )
    return table(
        [
            "data",
            "teacher",
            "parameters",
            "its test accuracy",
            "spread of wrong logits",
            "best likelihood at",
            "student, one temperature",
            "student, ATS",
            "one temperature - alone",
            "ATS - one temperature",
            "regret of `suggest_temperatures`",
        ],
        rows,
    )


def beside_and_ladder(found: Findings) -> str:
    """Students of teachers of another family against those of the ladder, seed by seed."""
    rows = []
    for data in found.data:
        for name in found.beside:
            for step in found.ladder:
                accuracies = (
                    [line["test"] for line in found.teacher(data, one)] for one in (name, step)
                )
                gaps = [
                    found.gap(
                        found.chosen_plain(data, name, method),
                        found.chosen_plain(data, step, method),
                    )
                    for method in ("one temperature", "ATS")
                ]
                factors = (found.chosen(data, "NormKD", one) for one in (name, step))
                own = interval(100 * np.subtract(*accuracies))
                rows.append([TITLES[data], f"{name} - {step}", own, *gaps, found.gap(*factors)])
    return table(["data", "teachers", "themselves", "one temperature", "ATS", "NormKD"], rows)


def _about(lines: list[dict[str, Any]]) -> list[str]:
    """Size of a teacher, its test accuracy, spread of its wrong logits, its best temperature."""
    of = [line["on_validation"] for line in lines]
    return [
        f"{lines[0]['parameters']:,}",
        spread([100 * line["test"] for line in lines]),
        f"{statistics.mean(one['wrong_spread'] for one in of):.2f}",
        f"{statistics.mean(one['calibrated'] for one in of):.2f}",
    ]


def points(found: Findings, data: str) -> list[dict[str, Any]]:
    """All pairs of a teacher and temperatures: measures, gain by seed."""
    alone = found.alone(data)
    made = []
    for teacher in found.ladder:
        lines = found.teacher(data, teacher)
        for pair, one in found.grid(data, teacher).items():
            measures = {name: found.softened(data, teacher, pair, name) for name in MEASURES}
            measures["test"] = statistics.mean(line["test"] for line in lines)
            measures["calibration_error"] = statistics.mean(
                line["on_validation"]["calibration_error"] for line in lines
            )
            gains = np.subtract(one.test, alone.test)
            made.append({"teacher": teacher, "pair": pair, "gains": gains, **measures})
    return made


def rank_correlation(first: Any, second: Any) -> float:
    """Spearman's, ties by mean ranks."""

    def ranks(values: Any) -> np.ndarray:
        values = np.asarray(values, "float64")
        return np.array([(values < one).sum() + (values == one).sum() / 2 for one in values])

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def parabola(first: Any, second: Any) -> float:
    """The share of the variance that the best parabola explains."""
    first, second = np.asarray(first, "float64"), np.asarray(second, "float64")
    fitted = np.polyval(
        np.polyfit(first / np.abs(first).max(), second, 2), first / np.abs(first).max()
    )
    return float(1 - np.var(second - fitted) / np.var(second))


def explanations(found: Findings) -> str:
    rows = []
    for name, title in {**MEASURES, **OF_TEACHERS}.items():
        row = [title]
        for data in found.data:
            made = points(found, data)
            measure = [one[name] for one in made]
            gains = [one["gains"].mean() for one in made]
            by_seed = [
                rank_correlation(measure, [one["gains"][seed] for one in made])
                for seed in range(len(found.seeds[data]))
            ]
            mean = rank_correlation(measure, gains)
            row.append(f"{mean:+.2f} ({min(by_seed):+.2f} to {max(by_seed):+.2f})")
            # Four teachers are too few for a parabola.
            row.append(f"{parabola(measure, gains):.2f}" if name in MEASURES else "")
        rows.append(row)
    header = [cell for data in found.data for cell in (f"{TITLES[data]}, rank", "parabola")]
    return table(["gain and", *header], rows)


def regrets(found: Findings, data: str, teachers: list[str] | None = None) -> dict[str, np.ndarray]:
    """What each rule loses against the pair chosen on validation data, mean over teachers."""
    losses: dict[str, list[np.ndarray]] = {}
    for teacher in teachers or found.ladder:
        grid = found.grid(data, teacher)
        best = max(grid.values(), key=lambda one: statistics.mean(one.validation))
        tried = {title: found.all_of(data, rule, teacher)[0] for rule, title in RULES.items()}
        tried["4 for all classes"] = grid[4, 4]
        tried["(4, 2), as published"] = grid[4, 2]
        for factor in (1, 2):
            tried[f"NormKD, factor {factor}"] = next(
                one
                for one in found.all_of(data, "NormKD", teacher)
                if one.setting == {"factor": factor}
            )
        for title, one in tried.items():
            losses.setdefault(title, []).append(np.subtract(best.test, one.test))
    return {title: np.mean(each, axis=0) for title, each in losses.items()}


def rules(found: Findings) -> str:
    by_data = {data: regrets(found, data) for data in found.data}
    titles = by_data[found.data[0]]

    def total(title: str) -> float:
        return sum(by_data[data][title].mean() for data in found.data)

    rows = [
        [title, *(interval(by_data[data][title]) for data in found.data)]
        for title in sorted(titles, key=total)
    ]
    return table(["rule", *(f"regret on {TITLES[data]}, points" for data in found.data)], rows)


def method_gains(found: Findings, data: str) -> dict[str, tuple[Found, Any]]:
    """Each method at the setting chosen on validation data, and its gain over labels alone."""
    alone = found.alone(data)
    made = {}
    for method in ("one temperature", "ATS", *found.config["rivals"]):
        teacher = None if method == "label smoothing" else found.large
        chosen = found.chosen(data, method, teacher)
        made[method] = (chosen, found.gap(chosen, alone))
    return made


def methods(found: Findings) -> str:
    by_data = {data: method_gains(found, data) for data in found.data}
    order = sorted(
        by_data[found.data[0]],
        key=lambda method: -sum(by_data[data][method][1].mean for data in found.data),
    )
    rows = []
    for method in order:
        row = [method]
        for data in found.data:
            chosen, gain = by_data[data][method]
            row += [f"{statistics.mean(chosen.test):.2f}", gain, pair_of(chosen)]
        rows.append(row)
    rows.append(
        ["labels alone"]
        + [cell for data in found.data for cell in (spread(found.alone(data).test), "", "")]
    )
    header = [f"{TITLES[data]}" for data in found.data]
    return table(
        ["method", *(cell for one in header for cell in (one, "over labels alone", "setting"))],
        rows,
    )


def elsewhere(found: Findings) -> str:
    first, second = found.config["students"]
    small = found.ladder[0]
    rows = []
    for data in found.data:
        for title, where in (
            (f"{second} units, few sentences", {"size": "few", "student": second}),
            (f"{first} units, all sentences", {"size": "full", "student": first}),
        ):
            alone = found.alone(data, **where)
            for teacher in (small, found.large):
                one = found.chosen(data, "one temperature", teacher, **where)
                ats = found.chosen(data, "ATS", teacher, **where)
                rows.append(
                    [
                        TITLES[data],
                        title,
                        spread(alone.test),
                        teacher,
                        f"{found.gap(one, alone)} ({pair_of(one)})",
                        f"{found.gap(ats, alone)} ({pair_of(ats)})",
                        found.gap(ats, one),
                    ]
                )
    return table(
        [
            "data",
            "student",
            "labels alone",
            "teacher",
            "one temperature - alone",
            "ATS - alone",
            "ATS - one temperature",
        ],
        rows,
    )


def deployment(found: Findings) -> str:
    """Of CLINC150: accuracy from the lines, size and time from LiteRT."""
    data = found.data[0]
    first, second = found.config["students"]
    ats = {
        name: found.chosen(data, "ATS", found.large, size="few", student=name)
        for name in (first, second)
    }
    rows = []
    for name in (first, second):
        for method, one in (
            ("labels alone", found.alone(data, size="few", student=name)),
            ("ATS", ats[name]),
        ):
            of = found.deployed[f"student {name}, {method}"]
            rows.append([f"student, {name} units, {method}", spread(one.test), *_costs(of)])
    for name in found.ladder:
        tests = [100 * line["test"] for line in found.teacher(data, name)]
        rows.append([f"teacher, {name}", spread(tests), *_costs(found.deployed[name])])
    return table(
        [
            "network",
            "test accuracy",
            "int8, points more",
            "parameters",
            "kB, float32",
            "kB, int8",
            "ms, float32",
            "ms, int8",
        ],
        rows,
    )


def _costs(of: dict[str, Any]) -> list[str]:
    forms = of["float32"], of["int8"]
    return [
        f"{100 * (of['int8']['test'] - of['float32']['test']):+.2f}",
        f"{of['parameters']:,}",
        *(f"{form['bytes'] / 1000:,.0f}" for form in forms),
        *(f"{form['milliseconds']:.3f}" for form in forms),
    ]
