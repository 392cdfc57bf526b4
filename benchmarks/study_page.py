"""Makes every table and figure of docs/results.md from the lines of the study.

python benchmarks/study_page.py            # writes the tables into the page, and the figures
python benchmarks/study_page.py --print    # prints the tables
"""

import argparse
import json
import re
from pathlib import Path

from study import figures, tables
from study.findings import Findings
from study.lines import read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
LINES = ROOT / "benchmarks" / "results" / "study.jsonl"
DEPLOYED = ROOT / "benchmarks" / "results" / "study_deployment.json"
CONFIG = ROOT / "benchmarks" / "study" / "intents.json"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--print", action="store_true", help="print the tables, write nothing")
    options = parser.parse_args()
    found = findings()
    made = tables.all_tables(found)
    if options.print:
        for name, text in made.items():
            print(f"{name}\n{text}\n")
        return
    PAGE.write_text(filled(PAGE.read_text(), made))
    README.write_text(filled(README.read_text(), {"readme": tables.readme(found)}))
    for name, figure in figures.all_figures(found).items():
        figure.savefig(IMAGES / f"{name}.png", dpi=110)


def findings() -> Findings:
    """All that is read off the lines."""
    config, deployed = (json.loads(path.read_text()) for path in (CONFIG, DEPLOYED))
    return Findings(read(LINES), config, deployed["networks"])


def filled(page: str, made: dict[str, str]) -> str:
    """The page with each table in its place, between its two comments."""
    for name, text in made.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = place.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
        if count != 1:
            raise ValueError(f"The page must have one place for '{name}'. Received: {count}.")
    return page


if __name__ == "__main__":
    main()
