"""Which samples a subset or a split takes, class by class."""

import numpy as np

from keras_ats.checks import as_integer, as_number
from keras_ats.data.arrays import Array


def balanced(labels: Array, class_names: tuple[str, ...], size: int, seed: int) -> Array:
    """Marks `size` samples, of each class as many; the first classes have one more if need be."""
    size = as_integer(size, "size", 1)
    classes = len(class_names)
    counts = np.bincount(labels, minlength=classes)
    wanted = np.full(classes, size // classes) + (np.arange(classes) < size % classes)
    if np.any(wanted > counts):
        short = int(np.argmax(wanted > counts))
        raise ValueError(
            f"A class-balanced subset of {size} needs {wanted[short]} samples of class "
            f"'{class_names[short]}'. Received: {counts[short]} of {len(labels)}. The largest that "
            f"is there for sure is size={counts.min() * classes}."
        )
    return _drawn(labels, wanted, seed)


def proportional(labels: Array, class_names: tuple[str, ...], fraction: float, seed: int) -> Array:
    """Marks a fraction of the samples, of each class its share, rounded up or down."""
    fraction = as_number(fraction, "fraction", "a number above 0 and below 1, such as 0.1")
    total = round(fraction * len(labels)) if 0 < fraction < 1 else 0
    if not total:
        raise ValueError(
            "`fraction` must be above 0 and below 1, and large enough for one sample. Received: "
            f"fraction={fraction!r} of {len(labels)} samples."
        )
    counts = np.bincount(labels, minlength=len(class_names))
    shares = fraction * counts
    wanted = np.floor(shares).astype(int)
    # What rounding down leaves over goes to the classes that lost most by it.
    losers = np.argsort(wanted - shares, kind="stable")[: total - wanted.sum()]
    wanted[losers] += 1
    emptied = (wanted == counts) & (counts > 0)
    if np.any(emptied):
        raise ValueError(
            f"A part of {fraction} would take all samples of class "
            f"'{class_names[int(np.argmax(emptied))]}'. Received: {counts[emptied][0]} of them. "
            "Take a smaller fraction, or more samples."
        )
    return _drawn(labels, wanted, seed)


def _drawn(labels: Array, wanted: Array, seed: int) -> Array:
    """Marks `wanted[c]` samples of each class c, shape `(n,)`, bool."""
    generator = np.random.default_rng(as_integer(seed, "seed", 0))
    order = np.argsort(generator.random(len(labels)))
    chosen = np.zeros(len(labels), bool)
    for label, count in enumerate(wanted):
        chosen[order[labels[order] == label][:count]] = True
    return chosen
