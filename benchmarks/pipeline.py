"""How many images per second the input pipeline delivers, beside what a student can take.

    KERAS_BACKEND=tensorflow python benchmarks/pipeline.py [--output results.json]

Random images in the form of CIFAR-10, shuffled, cropped and flipped as in training. A student that
trains from arrays in memory waits for nothing: its rate is the demand. Contestants take turns.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_ats import data, models


def main() -> None:
    """Measures, prints a table, then one line of JSON."""
    arguments = parse_arguments()
    report = measure(arguments)
    print(f"\n{report['backend']}, batches of {arguments.batch_size}, images per second")
    for name, value in report["images_per_second_of"].items():
        print(f"  {name:<40} best {value['best']:9.0f}   median {value['median']:9.0f}")
    print(f"pipeline / {arguments.student} from arrays: {report['ratio']:.1f} (medians)")
    slowdown = report["step_ratio"]
    print(f"step from the pipeline / step from arrays: {slowdown:.3f} (median over rounds)")
    print(json.dumps(report))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="training steps per round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict:
    """Rates over all rounds, and the two ratios."""
    size, steps = arguments.batch_size, arguments.steps
    samples = random_images(50_000)
    batches = samples.batches(size, shuffle=True, augment=True, drop_remainder=True)
    network = models.get(arguments.student, num_classes=10)
    network.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    (x, y), *_ = samples.batches(size * steps).take(1)
    x, y = np.array(x), np.array(y)

    pipeline_steps = 8 * steps

    def deliver() -> None:
        for _ in batches.take(pipeline_steps):
            pass

    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "pipeline alone": (deliver, pipeline_steps),
        "student from arrays": (
            lambda: network.fit(x, y, batch_size=size, shuffle=False, verbose=0),
            steps,
        ),
        "student from the pipeline": (
            lambda: network.fit(batches, steps_per_epoch=steps, verbose=0),
            steps,
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(arguments.rounds + 1):
        for name, (run, count) in contestants.items():
            start = time.perf_counter()
            run()
            if round_number:  # The first one compiles.
                seconds[name].append((time.perf_counter() - start) / count)
    rates = {name: [size / value for value in values] for name, values in seconds.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    by_round = zip(
        seconds["student from the pipeline"], seconds["student from arrays"], strict=True
    )
    return {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": platform.machine(),
        "batch_size": size,
        "student": arguments.student,
        "rounds": arguments.rounds,
        "images_per_second": round(medians["pipeline alone"]),
        "images_per_second_of": {
            name: {"best": round(max(values)), "median": round(medians[name])}
            for name, values in rates.items()
        },
        "ratio": round(medians["pipeline alone"] / medians["student from arrays"], 2),
        "step_ratio": round(statistics.median(a / b for a, b in by_round), 3),
    }


def random_images(count: int) -> data.Samples:
    """Images and labels in the form of CIFAR-10."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(count, 32, 32, 3), dtype="uint8")
    return data.Samples.from_arrays(images, rng.integers(0, 10, count))


if __name__ == "__main__":
    main()
