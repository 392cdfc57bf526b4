"""Makes every table and figure of docs/results.md from the lines of the study.

python benchmarks/study_page.py            # writes the tables into the page, and the figures
python benchmarks/study_page.py --print    # prints the tables
"""

import argparse
import json
import re
from pathlib import Path

from study import figures, image_tables, tables
from study.findings import Findings
from study.lines import read

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
LINES = ROOT / "benchmarks" / "results" / "study.jsonl"
DEPLOYED = ROOT / "benchmarks" / "results" / "study_deployment.json"
CONFIG = ROOT / "benchmarks" / "study" / "intents.json"
IMAGE_LINES = ROOT / "benchmarks" / "results" / "study_images.jsonl"
IMAGE_CONFIG = ROOT / "benchmarks" / "study" / "cifar10.json"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--print", action="store_true", help="print the tables, write nothing")
    options = parser.parse_args()
    found, of_images = findings(), image_findings()
    made = all_tables(found, of_images)
    if options.print:
        for name, text in made.items():
            print(f"{name}\n{text}\n")
        return
    PAGE.write_text(filled(PAGE.read_text(), made))
    README.write_text(filled(README.read_text(), {"readme": tables.readme(found)}))
    made_figures = figures.all_figures(found)
    made_figures["results_images_curve"] = image_tables.curve(of_images)
    for name, figure in made_figures.items():
        figure.savefig(IMAGES / f"{name}.png", dpi=110)


def all_tables(found: Findings, of_images: image_tables.ImageFindings) -> dict[str, str]:
    """All tables of the page by name."""
    return tables.all_tables(found) | image_tables.all_tables(of_images)


def findings() -> Findings:
    """All that is read off the lines."""
    config, deployed = (json.loads(path.read_text()) for path in (CONFIG, DEPLOYED))
    return Findings(read(LINES), config, deployed["networks"])


def image_findings() -> image_tables.ImageFindings:
    """What there is on images."""
    return image_tables.ImageFindings(read(IMAGE_LINES), json.loads(IMAGE_CONFIG.read_text()))


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
