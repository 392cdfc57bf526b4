"""What `diagnose` returns: a table to read, numbers to keep, and a page with figures."""

import base64
import html
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_ats import files
from keras_ats.diagnostics.findings import TeacherFindings


class Report:
    """What was found of one teacher or several, side by side.

    Attributes:
        teachers: What was found of each, by name.

    Args:
        teachers: What was found.

    Example:

    ```python
    labels = np.arange(30) % 3
    logits = 5.0 * np.eye(3)[labels] + np.random.normal(size=(30, 3))
    report = keras_ats.diagnose(logits, labels)
    print(report)
    report.teachers["teacher"].wrong_spread
    ```
    """

    def __init__(self, teachers: Sequence[TeacherFindings]) -> None:
        self.teachers = {one.name: one for one in teachers}

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers by teacher, as JSON takes them."""
        return {name: one.to_dict() for name, one in self.teachers.items()}

    def __str__(self) -> str:
        """Returns the table, and what it means."""
        header, *rows = self._rows()
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in [header, *rows]
        ]
        remarks = [textwrap.fill(one, 99, subsequent_indent="  ") for one in self.remarks()]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", *remarks])

    __repr__ = __str__

    def remarks(self) -> list[str]:
        """Returns a sentence or two on each teacher."""
        return [f"{one.name}: {' '.join(_remarks(one))}" for one in self.teachers.values()]

    def plot(self) -> Any:
        """Returns a matplotlib figure of all teachers; needs the extra `plot`.

        Correct logits and wrong spreads, derived average and deviation over temperatures,
        reliability.
        """
        from keras_ats.diagnostics import drawing

        return drawing.overview(list(self.teachers.values()))

    def save(self, path: str | Path) -> None:
        """Writes one HTML file with table, remarks and figures; needs the extra `plot`.

        Args:
            path: Where to, ending in `.html`. It opens from disk and loads nothing from elsewhere.

        Raises:
            TypeError: If `path` is no path.
            ValueError: If it ends otherwise.
        """
        place = files.local_path(path, "path")
        if place.suffix not in (".html", ".htm"):
            raise ValueError(
                f"`path` must end in '.html'. Received: path={str(path)!r}. The numbers alone are "
                "in to_dict(), the figure alone in plot().savefig(...)."
            )
        page = self._page()
        with files.whole_file(place) as unfinished:
            unfinished.write_text(page, encoding="utf-8")

    def _rows(self) -> list[list[str]]:
        found = list(self.teachers.values())
        rows = [["", *(one.name for one in found)]]
        for title, form in _ROWS.items():
            rows.append([title, *(form(one) for one in found)])
        return rows

    def _page(self) -> str:
        from keras_ats.diagnostics import drawing

        header, *rows = self._rows()
        table = "".join(
            f"<tr><th scope=row>{html.escape(row[0])}</th>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        heads = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in header)
        found = list(self.teachers.values())
        wide = [
            ("How large the correct logit is, and how far apart the wrong ones", drawing.logits),
            ("Soft targets over temperatures, under one and under ATS", drawing.curves),
            ("Whether it is as right as it is sure", drawing.reliability),
        ]
        pictures = "".join(_picture(title, draw(found), "wide") for title, draw in wide)
        similar = "".join(
            _picture(f"What resembles what: {one.name}", drawing.similarity(one)) for one in found
        )
        remarks = "".join(f"<p>{html.escape(one)}</p>" for one in self.remarks())
        classes = "".join(_class_table(one) for one in found)
        return _PAGE.format(
            heads=heads,
            table=table,
            remarks=remarks,
            pictures=pictures,
            similar=similar,
            classes=classes,
        )


_ROWS: dict[str, Callable[[TeacherFindings], str]] = {
    "samples": lambda one: f"{one.samples:,}",
    "classes": lambda one: f"{one.classes:,}",
    "accuracy": lambda one: f"{one.accuracy:.3f}",
    "correct logit over wrong ones": lambda one: f"{one.correct_logit:.2f}",
    "spread of wrong logits": lambda one: f"{one.wrong_spread:.2f}",
    "share of correct class": lambda one: f"{one.plain.correct_share:.3f}",
    "derived average": lambda one: f"{one.plain.derived_average:.2e}",
    "derived deviation": lambda one: f"{one.plain.derived_deviation:.2e}",
    "inherent variance": lambda one: f"{one.plain.inherent_variance:.2e}",
    "entropy / log C": lambda one: f"{one.plain.entropy / math.log(one.classes):.3f}",
    "calibration error": lambda one: f"{one.calibration.error:.3f}",
    "adaptive calibration error": lambda one: f"{one.calibration.adaptive_error:.3f}",
    "likeliest temperature": lambda one: f"{one.best_temperature:.2f}",
    "suggested correct temperature": lambda one: f"{one.suggestion.correct_temperature:.2f}",
    "suggested wrong temperature": lambda one: f"{one.suggestion.wrong_temperature:.2f}",
    "spread of wrong logits there": lambda one: (
        f"{one.wrong_spread / one.suggestion.wrong_temperature:.2f}"
    ),
    "share of correct class there": lambda one: f"{one.suggested.correct_share:.2f}",
    "derived deviation there": lambda one: f"{one.suggested.derived_deviation:.2e}",
}


def _remarks(one: TeacherFindings) -> list[str]:
    remarks = []
    if one.best_temperature > 1.25:
        remarks.append(
            f"It is surer than it is right: its likeliest temperature is "
            f"{one.best_temperature:.2f}."
        )
    best_single = max(one.one_temperature, key=lambda each: each.derived_deviation)
    ratio = one.suggested.derived_deviation / max(best_single.derived_deviation, 1e-30)
    if ratio > 1.0:
        remarks.append(
            "No single temperature sets its wrong classes as far apart as the suggested pair "
            f"does: {ratio:.1f} times the best of them, {best_single.wrong_temperature:g}."
        )
    return [*remarks, one.suggestion.reason]


def _class_table(one: TeacherFindings) -> str:
    rows = "".join(
        f"<tr><th scope=row>{index}</th><td>{count}</td><td>{accuracy:.3f}</td>"
        f"<td>{logit:.2f}</td><td>{spread:.2f}</td></tr>"
        for index, (count, accuracy, logit, spread) in enumerate(
            zip(
                one.class_count,
                one.class_accuracy,
                one.class_correct_logit,
                one.class_wrong_spread,
                strict=True,
            )
        )
        if count
    )
    return (
        f"<details><summary>Each class of {html.escape(one.name)}</summary><table><thead><tr>"
        "<th>class</th><th>samples</th><th>accuracy</th><th>correct logit</th>"
        f"<th>spread of wrong logits</th></tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _picture(title: str, figure: Any, kind: str = "narrow") -> str:
    return (
        f"<figure class={kind}><img alt='{html.escape(title)}' "
        f"src='data:image/png;base64,{_png(figure)}'>"
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def _png(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return base64.b64encode(stream.getvalue()).decode("ascii")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Diagnosis of teachers</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
div.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; }}
th, td {{ white-space: nowrap; }}
th[scope=row] {{ text-align: left; font-weight: normal; padding-left: 0; }}
figure {{ margin: 2rem 0; overflow-x: auto; }}
.row {{ display: flex; flex-wrap: wrap; gap: 0 1rem; }}
.row figure {{ flex: 0 1 29rem; }}
img {{ max-width: 100%; background: #fff; }}
figcaption {{ opacity: .7; }}
@media (max-width: 40rem) {{
  th, td {{ padding: .2rem .4rem; }}
  th[scope=row] {{ white-space: normal; min-width: 6rem; }}
  .wide img {{ max-width: none; width: 42rem; }}
}}
</style></head><body>
<h1>Diagnosis of teachers</h1>
<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{table}</tbody></table></div>
{remarks}
{pictures}
<div class="row">{similar}</div>
<div class="wide">{classes}</div>
</body></html>
"""
