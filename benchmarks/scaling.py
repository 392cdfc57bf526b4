"""Weak scaling on paper: every number of docs/guides/scaling.md, from stated assumptions.

    python benchmarks/scaling.py            # prints the tables
    python benchmarks/scaling.py --write    # puts them into the page

Nothing here is measured on several machines. Weak scaling: each device keeps its batch, and the
question is how much longer a step takes when there are more devices.
"""

import argparse
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

from keras_ats import models

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "guides" / "scaling.md"
PIPELINE = ROOT / "benchmarks" / "results" / "pipeline.json"


class Link(NamedTuple):
    """What a device can send, and how long the first byte takes."""

    name: str
    bytes_per_second: float
    seconds_of_latency: float


LINKS = (
    Link("10 GbE", 10e9 / 8, 20e-6),
    Link("100 GbE", 100e9 / 8, 20e-6),
    Link("NVLink-like", 300e9, 5e-6),
)
DEVICES = (2, 8, 64)

# CIFAR-100.
BATCH = 64  # images per device and step
CIFAR_FLOPS = 10e12  # per second, sustained by one accelerator on small convolutions
IMAGES = 50_000
CPU_SECONDS = {"resnet8": 54, "resnet20": 169}  # of an epoch's training, TensorFlow, two cores

# A language model of 7B parameters, its student of 1B.
TEACHER, STUDENT = 7e9, 1e9
LAYERS, WIDTH, VOCABULARY = 32, 4096, 32_000
SEQUENCES, TOKENS = 8, 2048  # per group of devices that holds one teacher
LANGUAGE_FLOPS = 200e12  # per second, sustained by one accelerator in bfloat16
PIECES = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    if parser.parse_args().write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for name, lines in tables().items():
        print(f"{name}\n\n{lines}\n")


def with_tables(page: str) -> str:
    """The page with each table that it asks for as it is now."""
    for name, lines in tables().items():
        begin, end = f"<!-- {name}: printed by benchmarks/scaling.py -->", "<!-- end -->"
        place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not place.search(page):
            raise ValueError(f"{PAGE} has no place for the table {name!r}: {begin!r} ... {end!r}")
        filled = f"{begin}\n\n{lines}\n\n{end}"
        page = place.sub(lambda _, filled=filled: filled, page)
    return page


def tables() -> dict[str, str]:
    """Every table of the page, by name, as Markdown."""
    sizes = {name: measure(name) for name in ("resnet8", "resnet20", "vgg8", "resnet110")}
    rates = [3 * sizes[name].flops * IMAGES / seconds for name, seconds in CPU_SECONDS.items()]
    devices = {"accelerator": CIFAR_FLOPS, "two CPU cores": sum(rates) / len(rates)}
    alone = 3 * sizes["vgg8"].flops  # forward, and twice as much backward
    taught = alone + sizes["resnet110"].flops
    return {
        "assumptions": assumptions(),
        "networks": networks(sizes),
        "exchange": exchange(4 * sizes["vgg8"].weights),
        "efficiency": efficiency(devices, alone, taught, 4 * sizes["vgg8"].weights),
        "pipeline": pipeline(devices, alone, taught),
        "language model": language_model(),
        "language model's other sizes": language_sizes(),
    }


class Size(NamedTuple):
    """Of a network: trainable weights, and operations of one image's forward pass."""

    weights: int
    flops: int


def measure(name: str) -> Size:
    """Counts a network's weights, and twice the multiplications of its layers with kernels."""
    model = models.get(name, 100)
    multiplications = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            positions = layer.output.shape[1:-1]  # of a convolution; a Dense layer has none
            multiplications += math.prod(positions) * math.prod(layer.kernel.shape)
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Size(weights, 2 * multiplications)


def all_reduce_bytes(size: float, devices: int) -> float:
    """What each device sends in a ring all-reduce of `size` bytes."""
    return 2 * (devices - 1) / devices * size


def all_reduce_seconds(size: float, devices: int, link: Link) -> float:
    """Duration of a ring all-reduce: 2(N - 1) messages one after the other."""
    waiting = 2 * (devices - 1) * link.seconds_of_latency
    return waiting + all_reduce_bytes(size, devices) / link.bytes_per_second


def assumptions() -> str:
    """What is taken for granted."""
    rows = [
        [
            f"{link.name} link",
            f"{link.bytes_per_second / 1e9:g} GB/s sent by each device, "
            f"{link.seconds_of_latency * 1e6:g} µs for each message",
        ]
        for link in LINKS
    ]
    rows += [
        ["accelerator, CIFAR networks", f"{CIFAR_FLOPS / 1e12:g} TFLOP/s sustained"],
        ["accelerator, language models", f"{LANGUAGE_FLOPS / 1e12:g} TFLOP/s sustained"],
        ["batch, CIFAR", f"{BATCH} images on each device"],
        ["batch, language models", f"{SEQUENCES} sequences of {TOKENS:,} tokens"],
        ["exchange and computing", "one after the other; backends overlap them in part"],
    ]
    return markdown(["", "assumed"], rows)


def networks(sizes: dict[str, Size]) -> str:
    """The CIFAR networks, and what a measured epoch says about two CPU cores."""
    rows = []
    for name, (weights, flops) in sizes.items():
        measured = ["", ""]
        if seconds := CPU_SECONDS.get(name):
            measured = [f"{seconds} s", f"{3 * flops * IMAGES / seconds / 1e9:.0f} GFLOP/s"]
        rows.append([name, f"{weights:,}", f"{flops / 1e6:.0f} MFLOP", *measured])
    header = ["network", "weights", "forward pass of an image"]
    return markdown([*header, f"epoch of {IMAGES:,} images", "that is"], rows)


def exchange(gradients: float) -> str:
    """The student's gradients on their way through a ring."""
    rows = [
        [
            devices,
            f"{all_reduce_bytes(gradients, devices) / 1e6:.1f} MB",
            *[f"{1e3 * all_reduce_seconds(gradients, devices, link):.2f} ms" for link in LINKS],
        ]
        for devices in DEVICES
    ]
    return markdown(["devices", "each sends", *[link.name for link in LINKS]], rows)


def efficiency(rates: dict[str, float], alone: float, taught: float, gradients: float) -> str:
    """Share of a step that is not spent on the exchange."""

    def share(flops: float, rate: float, devices: int, link: Link) -> float:
        computing = BATCH * flops / rate
        return computing / (computing + all_reduce_seconds(gradients, devices, link))

    rows = [
        [
            kind,
            devices,
            *[
                f"{share(alone, rate, devices, link):.0%}, {share(taught, rate, devices, link):.0%}"
                for link in LINKS
            ],
        ]
        for kind, rate in rates.items()
        for devices in DEVICES
    ]
    return markdown(["device", "devices", *[link.name for link in LINKS]], rows)


def pipeline(rates: dict[str, float], alone: float, taught: float) -> str:
    """Images that a device takes in, against what its host's pipeline delivers."""
    delivered = json.loads(PIPELINE.read_text())["images_per_second"]
    rows = []
    for kind, rate in rates.items():
        for work, flops in (("student alone", alone), ("with the teacher", taught)):
            needed = rate / flops
            rows.append([kind, work, f"{needed:,.0f}", f"{delivered / needed:.1f}"])
    header = ["device", "work", "images per second it takes"]
    return markdown(
        [*header, f"devices that a host feeds, at {delivered:,.0f} images per second"], rows
    )


def language_model() -> str:
    """A step's parts for one batch and k devices, in both ways to hold a teacher in pieces."""
    link = LINKS[-1]
    tokens = SEQUENCES * TOKENS
    rows = []
    for pieces in PIECES:
        teacher = 2 * TEACHER * tokens / pieces / LANGUAGE_FLOPS
        student = 3 * 2 * STUDENT * tokens / LANGUAGE_FLOPS
        # Two all-reduces of bfloat16 activations in each layer.
        activations = 2 * LAYERS * all_reduce_bytes(2 * tokens * WIDTH, pieces)
        weights = (pieces - 1) / pieces * 2 * TEACHER
        sent = [activations / link.bytes_per_second, weights / link.bytes_per_second]
        totals = [sent[0] + teacher + student, sent[1] + teacher + student / pieces]
        rows.append(
            [
                pieces,
                f"{2 * TEACHER / pieces / 1e9:.2f} GB",
                f"{activations / 1e9:.1f} GB",
                f"{1e3 * totals[0]:.0f} ms",
                f"{weights / 1e9:.1f} GB",
                f"{1e3 * totals[1]:.0f} ms",
            ]
        )
    header = ["k", "teacher on each device", "activations sent", "step", "weights received", "step"]
    return markdown(header, rows)


def language_sizes() -> str:
    """What else is large in distilling a language model."""
    logits = 4 * SEQUENCES * TOKENS * VOCABULARY
    gradients = 4 * STUDENT
    replicas = DEVICES[1]
    rows = [
        ["logits of one model for the batch, float32", f"{logits / 1e9:.1f} GB"],
        ["gradients of the student, float32", f"{gradients / 1e9:.1f} GB"],
        [
            f"sent by each of {replicas} replicas",
            f"{all_reduce_bytes(gradients, replicas) / 1e9:.1f} GB",
        ],
        *[
            [f"over {link.name}", f"{1e3 * all_reduce_seconds(gradients, replicas, link):,.0f} ms"]
            for link in LINKS
        ],
    ]
    return markdown(["", "size or time"], rows)


def markdown(header: list[str], rows: list[list[object]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    main()
