"""How long a distillation step takes, beside what it cannot do without.

    KERAS_BACKEND=jax python benchmarks/step.py [--rounds 8] [--output results.json]

One process per backend. Contestants take turns, because a shared machine drifts; ratios are taken
within each round, and the minimum and median over rounds are reported. The floor of a
distillation step is one plain student step plus one teacher forward pass.
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

import keras_ats
from keras_ats.models import get

Contestant = Callable[[], object]


def main() -> None:
    """Measures all contestants and prints a table, then one line of JSON."""
    arguments = parse_arguments()
    contestants = build_contestants(arguments.batch_size, arguments.steps)
    for run in contestants.values():
        run()  # Compiles.
    rounds = [measure(contestants, arguments.steps) for _ in range(arguments.rounds)]
    report = summarise(rounds) | {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": platform.machine(),
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "steps_per_round": arguments.steps,
    }
    print_table(report)
    print(json.dumps(report))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="batches per contestant and round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    return parser.parse_args()


def build_contestants(batch_size: int, steps: int) -> dict[str, Contestant]:
    """One callable per contestant; each runs `steps` batches."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch_size * steps, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 100, size=len(x))
    teacher = get("resnet20", num_classes=100, name="teacher")
    plain, distilled, stock = (
        get("resnet8", num_classes=100, name=f"student_{i}") for i in range(3)
    )
    optimizer = {"class_name": "SGD", "config": {"learning_rate": 0.05, "momentum": 0.9}}
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    plain.compile(keras.optimizers.get(optimizer), loss=crossentropy)
    ours = keras_ats.Distiller(teacher, distilled)
    ours.compile(
        keras.optimizers.get(optimizer), kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2)
    )
    # A copy: Keras's distiller sets `trainable` on the teacher that it is given.
    stock_teacher = keras.models.clone_model(teacher)
    theirs = keras.distillation.Distiller(
        stock_teacher,
        stock,
        # Its default loss has no softmax; this one is the right one.
        distillation_losses=keras.distillation.LogitsDistillation(
            4.0, loss=keras.losses.KLDivergence()
        ),
    )
    theirs.compile(keras.optimizers.get(optimizer), loss=crossentropy)

    def fit(model: keras.Model) -> Contestant:
        return lambda: model.fit(x, y, batch_size=batch_size, verbose=0, shuffle=False)

    def evaluate(model: keras.Model) -> Contestant:
        return lambda: model.evaluate(x, y, batch_size=batch_size, verbose=0)

    return {
        "student step": fit(plain),
        "teacher forward": lambda: teacher.predict(x, batch_size=batch_size, verbose=0),
        "keras_ats step": fit(ours),
        "keras.distillation step": fit(theirs),
        "student evaluate": evaluate(plain),
        "keras_ats evaluate": evaluate(ours),
        "keras.distillation evaluate": evaluate(theirs),
    }


def measure(contestants: dict[str, Contestant], steps: int) -> dict[str, float]:
    """One round: milliseconds per batch of each contestant, one after the other."""
    milliseconds = {}
    for name, run in contestants.items():
        start = time.perf_counter()
        run()
        milliseconds[name] = 1000 * (time.perf_counter() - start) / steps
    return milliseconds


def summarise(rounds: list[dict[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Minimum and median of times and of ratios over the rounds."""
    times = {name: [one[name] for one in rounds] for name in rounds[0]}
    floor = [one["student step"] + one["teacher forward"] for one in rounds]
    ratios = {
        "keras_ats step / floor": (times["keras_ats step"], floor),
        "keras.distillation step / floor": (times["keras.distillation step"], floor),
        "keras_ats step / keras.distillation step": (
            times["keras_ats step"],
            times["keras.distillation step"],
        ),
        "keras_ats evaluate / student evaluate": (
            times["keras_ats evaluate"],
            times["student evaluate"],
        ),
        "keras.distillation evaluate / student evaluate": (
            times["keras.distillation evaluate"],
            times["student evaluate"],
        ),
    }
    return {
        "milliseconds": {name: spread(values) for name, values in times.items()},
        "ratios": {name: ratio_of(*pair) for name, pair in ratios.items()},
    }


def ratio_of(ours: list[float], others: list[float]) -> dict[str, float]:
    """The ratio of the best rounds, and of rounds one by one."""
    by_round = [a / b for a, b in zip(ours, others, strict=True)]
    return {"of_minima": round(min(ours) / min(others), 3)} | spread(by_round, digits=3)


def spread(values: list[float], digits: int = 2) -> dict[str, float]:
    """Minimum and median."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
    }


def print_table(report: dict[str, dict[str, dict[str, float]]]) -> None:
    """Prints times, then ratios."""
    print(f"\n{report['backend']}, milliseconds per batch of {report['batch_size']}")
    for name, value in report["milliseconds"].items():
        print(f"  {name:<48} min {value['min']:8.1f}   median {value['median']:8.1f}")
    print("ratios: of the minima, then the median over rounds")
    for name, value in report["ratios"].items():
        print(f"  {name:<48} {value['of_minima']:12.3f}   median {value['median']:8.3f}")


if __name__ == "__main__":
    main()
