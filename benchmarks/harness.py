"""What every benchmark shares: contestants that take turns, ratios within rounds, and the report.

The machine is shared and its speed drifts, so contestants alternate in one process and are compared
round by round. A script makes them and hands them over:

    import harness

    arguments = harness.parse_arguments(__doc__)        # --rounds --short --output --processor-time
    rounds = harness.measure({"plain": run, "ours": run_ours}, arguments, calls=8)
    report = harness.report(
        rounds,
        ratios={"ours / plain": ("ours", "plain"), "ours / floor": ("ours", ("plain", "teacher"))},
        unit="milliseconds per batch",
        batch_size=128,                                  # whatever else the reader must know
    )
    harness.publish(report, "step_torch", arguments)     # table, one line of JSON; with --output
                                                         # results/step_torch.json and .svg

A contestant is a function without arguments that returns when its work is done (on JAX: after
`jax.block_until_ready`). `calls` is what one call counts for, such as the batches in it. `peak_mib`
tells what a call takes beyond what is in memory before it.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

RESULTS = Path(__file__).resolve().parent / "results"
MIN_ROUNDS = 6
# Of glibc's `mallopt`.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 2**25

Contestant = Callable[[], object]
Rounds = dict[str, list[float]]


def parse_arguments(
    description: str | None, add_more: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """Reads the command line; `add_more` adds a script's own options."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="at least 6; defaults to 8")
    parser.add_argument("--short", action="store_true", help="the form of `make bench`: 6 rounds")
    parser.add_argument("--output", action="store_true", help="write JSON and plot into results/")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the process's own seconds, which others on the machine lengthen less",
    )
    if add_more is not None:
        add_more(parser)
    arguments = parser.parse_args()
    if arguments.rounds < MIN_ROUNDS:
        parser.error(f"--rounds must be at least {MIN_ROUNDS}. Received: {arguments.rounds}.")
    if arguments.short:
        arguments.rounds = MIN_ROUNDS
    return arguments


def measure(
    contestants: Mapping[str, Contestant],
    arguments: argparse.Namespace,
    *,
    calls: int = 1,
    warm_up: int = 1,
) -> Rounds:
    """Milliseconds of each contestant in each round, one after the other.

    Args:
        contestants: What is timed, by name.
        arguments: Those of `parse_arguments`: `rounds`, and which clock counts.
        calls: What one call counts for. Defaults to 1.
        warm_up: Rounds before the first that counts, in which things compile. Defaults to 1.
    """
    clock = time.process_time if arguments.processor_time else time.perf_counter
    found: Rounds = {name: [] for name in contestants}
    for number in range(warm_up + arguments.rounds):
        for name, run in contestants.items():
            start = clock()
            run()
            seconds = clock() - start
            if number >= warm_up:
                found[name].append(1000 * seconds / calls)
    return found


def report(
    rounds: Rounds,
    ratios: Mapping[str, tuple[str | tuple[str, ...], str | tuple[str, ...]]],
    unit: str,
    **facts: Any,
) -> dict[str, Any]:
    """Minimum and median of times and of ratios, and what they were measured on.

    Args:
        rounds: What `measure` found.
        ratios: Pairs of contestants by the name of their ratio; several names are added up.
        unit: What the times are.
        **facts: What else the reader must know.
    """
    return {
        "unit": unit,
        "times": {name: _spread(values, 3) for name, values in rounds.items()},
        "ratios": {
            name: ratio(_sum(rounds, one), _sum(rounds, other))
            for name, (one, other) in ratios.items()
        },
        "rounds": len(next(iter(rounds.values()))),
        **facts,
        "machine": machine(),
    }


def ratio(ours: list[float], others: list[float]) -> dict[str, float]:
    """The ratio of the best rounds, and the minimum and median over rounds one by one."""
    by_round = [a / b for a, b in zip(ours, others, strict=True)]
    return {"of_minima": round(min(ours) / min(others), 3)} | _spread(by_round, 3)


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    about = {}
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = (line.partition(":") for line in cpu_info.read_text().splitlines())
        about = {key.strip(): value.strip() for key, _, value in lines}
    return {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "framework": _framework_version(),
        "python": platform.python_version(),
        "processor": about.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "as the framework chooses"),
        "load": [round(value, 1) for value in os.getloadavg()],
        "accelerator": _accelerator(),
    }


def peak_mib(run: Contestant) -> float:
    """MiB that a call takes at its peak beyond what the process holds before it; Linux only."""
    libc = ctypes.CDLL(None)
    # Freed arrays would count as held, unless each has pages of its own; they take time, so that
    # afterwards all but the largest come from the heap again.
    libc.mallopt(_MMAP_THRESHOLD, 2**16)
    run()  # Compiles, and makes what is kept.
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to what is held now.
    before = _status("VmRSS")
    run()
    peak = _status("VmHWM")
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
    return (peak - before) / 1024


def publish(found: dict[str, Any], name: str, arguments: argparse.Namespace) -> None:
    """Prints a table, then one line of JSON; with `--output` writes both JSON and plot."""
    print(f"\n{name}: {found['unit']}")
    for contestant, value in found["times"].items():
        print(f"  {contestant:<52} min {value['min']:9.3f}   median {value['median']:9.3f}")
    print("ratios: of the minima, then the median over rounds")
    for pair, value in found["ratios"].items():
        print(f"  {pair:<52} {value['of_minima']:13.3f}   median {value['median']:9.3f}")
    print(json.dumps(found), flush=True)
    if arguments.output:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
        plot(found, RESULTS / f"{name}.svg", name)


def plot(found: dict[str, Any], path: Path, title: str) -> None:
    """Draws minimum and median of each contestant as bars."""
    from matplotlib.figure import Figure

    times = found["times"]
    figure = Figure(figsize=(8, 0.6 + 0.4 * len(times)), layout="constrained")
    axes = figure.subplots()
    places = range(len(times))
    axes.barh(places, [one["median"] for one in times.values()], color="lightgray", label="median")
    axes.barh(places, [one["min"] for one in times.values()], height=0.4, label="minimum")
    axes.set_yticks(places, list(times))
    axes.invert_yaxis()
    axes.set_xlabel(found["unit"])
    axes.set_title(title)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def _sum(rounds: Rounds, names: str | tuple[str, ...]) -> list[float]:
    names = (names,) if isinstance(names, str) else names
    return [sum(values) for values in zip(*(rounds[name] for name in names), strict=True)]


def _spread(values: list[float], digits: int) -> dict[str, float]:
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
    }


def _status(field: str) -> int:
    """A line of what Linux says of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _framework_version() -> str:
    if keras.backend.backend() == "torch":
        import torch as framework
    elif keras.backend.backend() == "jax":
        import jax as framework
    else:
        import tensorflow as framework
    return f"{keras.backend.backend()} {framework.__version__}"


def _accelerator() -> str:
    """What the backend computes on, if it is no CPU."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    if keras.backend.backend() == "jax":
        import jax

        kinds = {device.device_kind for device in jax.devices() if device.platform != "cpu"}
    else:
        import tensorflow as tf

        kinds = {device.name for device in tf.config.list_physical_devices("GPU")}
    return ", ".join(sorted(kinds)) or "none"
