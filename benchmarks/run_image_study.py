"""Runs the study of docs/results.md on images, one line for each run.

    KERAS_BACKEND=jax python benchmarks/run_image_study.py --data-dir FOLDER-OF-TFDS [--seed 0]

What is in the file of lines is done: killed at any moment, the same command goes on, and a teacher
in the middle of its training too. Several processes may share the work seed by seed.
"""

import argparse
import datetime
import json
from pathlib import Path

from run_study import versions_of
from study.images import Pupils
from study.lines import Lines

from keras_ats import data

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of TFDS's data sets")
    parser.add_argument("--config", type=Path, default=ROOT / "benchmarks/study/cifar10.json")
    kept = ROOT / "benchmarks/results/study_images.jsonl"
    parser.add_argument("--lines", type=Path, default=kept)
    parser.add_argument("--folder", type=Path, default=ROOT / "study-teachers", help="of teachers")
    parser.add_argument("--until", help="time of day, such as 05:05, after which no run is begun")
    parser.add_argument("--seed", type=int, help="only this one")
    options = parser.parse_args()
    config, lines = json.loads(options.config.read_text()), Lines(options.lines)
    ((name, chosen),) = config["data"].items()
    pupils = {}
    for block in config["runs"]:
        for seed in config["seeds"] if options.seed is None else [options.seed]:
            if seed not in pupils:
                splits = data.load(name, options.data_dir, seed=seed, verbose=False, **chosen)
                pupils[seed] = Pupils(splits, seed, config, lines, options.folder)
            for number, (method, teacher, setting) in enumerate(block, start=1):
                run = {"role": "student", "data": name, "seed": seed}
                run |= {"method": method, "teacher": teacher, "setting": setting}
                if run in lines:
                    continue
                if options.until and f"{datetime.datetime.now():%H:%M}" >= options.until:
                    print("Time is up. The same command goes on.")
                    return
                found = pupils[seed].train(run)
                lines.add(run, **found, versions=versions_of())
                print(
                    f"seed {seed}, {number} of {len(block)}: {method} {setting} from {teacher}: "
                    f"{found['test']:.4f} ({found['cpu_seconds']} s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
