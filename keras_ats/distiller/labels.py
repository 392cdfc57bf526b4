"""Labels looked at before the first batch, where they lie in memory.

What cannot be a label trains all the same, or fails far from its cause: a fraction is cut off to a
class id, logits make a loss that falls for ever. What is a label depends on the losses that read
it, so each output has a `LabelRule` that says what they need.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_ats.losses.bernoulli_kd import BernoulliKD
from keras_ats.losses.buckets import MOST_LEFT
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.label_crossentropy import LabelCrossentropy
from keras_ats.ops.label_range import ROUNDING
from keras_ats.ops.labels import are_class_ids
from keras_ats.types import Shape

Kind = Literal["classes", "answers", "values"]

# Keras's losses, as classes and as functions, by what they read.
_KINDS: dict[str, Kind] = {
    "SparseCategoricalCrossentropy": "classes",
    "sparse_categorical_crossentropy": "classes",
    "CategoricalCrossentropy": "classes",
    "categorical_crossentropy": "classes",
    "BinaryCrossentropy": "answers",
    "binary_crossentropy": "answers",
}
_BLOCK = 2**20  # Entries looked at in one go: labels may take most of the memory.


@dataclass(frozen=True)
class LabelRule:
    """What the labels of one output must be.

    Attributes:
        kind: `"classes"` that exclude each other, as ids or rows; `"answers"` from 0 to 1, one per
            class; `"values"` of any size.
        ignored: Labels that stand for no label.
    """

    kind: Kind
    ignored: tuple[float, ...] = ()


def label_rule(loss: Any, kd_losses: list[DistillationLoss]) -> LabelRule | None:
    """Returns what the labels of one output must be, by the losses that read them.

    Args:
        loss: The supervised loss of the output; None for none.
        kd_losses: The distillation losses of the output that will be computed.

    Returns:
        The rule; None where nothing reads labels.
    """
    kinds = {_kind_of(loss)} - {None}
    ignored = [getattr(loss, "ignore_class", None)]
    for one in kd_losses:
        if isinstance(one, KDLoss) and one.needs.labels:
            ignored += [one.ignore_label, getattr(one, "unknown_label", None)]
            if one.reads_labels:
                kinds.add("answers" if isinstance(one, BernoulliKD) else "classes")
    # Where losses differ the narrower kind counts: ids and rows are values too.
    kind = next((one for one in ("classes", "answers", "values") if one in kinds), None)
    left_out = tuple(label for label in ignored if label is not None)
    return None if kind is None else LabelRule(kind, left_out)


def check_labels_given(labels: Any) -> None:
    """Raises if a supervised loss has no labels to learn from."""
    if labels is None:
        raise ValueError(
            "There are no labels to learn from. Received: y=None. Pass labels to `fit`, or learn "
            "from the teacher alone: compile(loss=None, kd_weight=1.0, "
            "kd_loss=keras_ats.losses.TemperatureKD(4))."
        )


def check_labels_for_metrics(labels: Any) -> None:
    """Raises if there are no labels that metrics could hold predictions against."""
    if labels is None:
        raise ValueError(
            "There are no labels for `metrics`. Received: y=None. Pass labels, or leave `metrics` "
            "out; what needs none goes into `distillation_metrics`."
        )


def check_labels_in_memory(
    labels: Mapping[str, Any],
    rules: Mapping[str, LabelRule | None],
    shapes: Mapping[str, Shape | None],
    sample_weight: Any = None,
    argument: str = "y",
) -> None:
    """Raises if labels that lie in memory are none, for the losses that will read them.

    Args:
        labels: Labels by output; what is no array passes.
        rules: What they must be, by output.
        shapes: Shape of the logits by output; None where it is not known.
        sample_weight: Weights of samples, or anything else; rows of weight 0 are not looked at.
        argument: Where the labels were given, for the message.
    """
    for name, rule in rules.items():
        given, logits = labels.get(name), shapes.get(name)
        if rule is None or not hasattr(given, "shape"):
            continue
        place = argument if len(rules) == 1 else f"{argument} for the output '{name}'"
        numbers = _as_numbers(given, place)
        if rule.kind == "values" or logits is None or logits[-1] is None:
            continue
        # All samples are looked at, so a batch size that the model was built for says nothing.
        logits = (None, *logits[1:])
        if rule.kind == "answers":
            _check_answers(_counted(numbers, sample_weight), rule, place)
        elif logits[-1] == 1:
            continue  # One unit has no class ids; the loss says so.
        elif are_class_ids(numbers, keras.KerasTensor(logits)):
            _check_ids(numbers, rule, int(logits[-1] or 0), place)
        else:
            _check_rows(_counted(numbers, sample_weight), place)


def check_labels_are_kept(
    labels: Any, kept: Any, classes: int, losses: list[DistillationLoss], argument: str = "y"
) -> None:
    """Raises if rows of labels speak of classes that a cache with `top_k` has not kept.

    What the teacher says of such a class is not known, and the loss would be NaN.

    Args:
        labels: Labels of one output; what is no array passes, and so do ids.
        kept: Ids of the classes that were kept of each row, `(n, ..., k)`.
        classes: How many there are in all.
        losses: The distillation losses of the output.
        argument: Where the labels were given, for the message.
    """
    readers = [one for one in losses if isinstance(one, KDLoss) and one.reads_labels]
    readers = [one for one in readers if not one.pseudo_labels]
    expected = (*kept.shape[:-1], classes)
    if not readers or not hasattr(labels, "shape") or tuple(labels.shape) != expected:
        return
    rows = _as_numbers(labels, argument).reshape(-1, classes)
    ids = keras.ops.convert_to_numpy(kept).reshape(len(rows), -1)
    step = max(1, _BLOCK // classes)
    for start in range(0, len(rows), step):
        here, own = rows[start : start + step], ids[start : start + step].astype("int64")
        left = here.sum(axis=-1) - np.take_along_axis(here, own, axis=-1).sum(axis=-1)
        if left.max(initial=0.0) > MOST_LEFT:
            raise ValueError(
                "Soft labels reach classes that the cache has not kept, of which it does not know "
                f"what the teacher says. Received: {argument} with a row that has "
                f"{left.max():.3g} on other classes than the {kept.shape[-1]} kept, for "
                f"{type(readers[0]).__name__}, which reads labels. Expected: at most {MOST_LEFT}. "
                "Pass class ids, smooth no labels, use a loss that reads none, such as "
                "TemperatureKD, or make the cache with these labels and a larger top_k, or without."
            )


def _as_numbers(labels: Any, place: str) -> np.ndarray:
    is_tensor = keras.ops.is_tensor(labels)
    array = keras.ops.convert_to_numpy(labels) if is_tensor else np.asarray(labels)
    if array.dtype.kind == "O":
        # The columns of a table may be objects that are numbers all the same.
        with contextlib.suppress(TypeError, ValueError):
            array = array.astype("float64")
    if array.dtype.kind in "OSUTcmM":
        shown = array.reshape(-1)[0] if array.size else None
        remedy = "Names of classes become ids by numpy.unique(labels, return_inverse=True)[1]."
        if array.dtype.kind == "c":
            remedy = "Take the real part, numpy.real(labels), if that is what they mean."
        raise TypeError(
            f"Labels must be real numbers. Received: {place} of dtype {array.dtype}, such as "
            f"{shown!r}. {remedy}"
        )
    return array


def _counted(labels: np.ndarray, sample_weight: Any) -> np.ndarray:
    """The labels of samples that have a weight other than 0."""
    if getattr(sample_weight, "shape", None) not in ((len(labels),), (len(labels), 1)):
        return labels
    weights = np.asarray(keras.ops.convert_to_numpy(sample_weight))
    return labels[weights.reshape(-1) != 0]


def _check_ids(labels: np.ndarray, rule: LabelRule, num_classes: int, place: str) -> None:
    for label in rule.ignored:
        labels = labels[labels != label]
    if labels.dtype.kind not in "biu":
        broken = labels[~(np.isfinite(labels) & (labels == np.floor(labels)))]
        if broken.size:
            raise ValueError(
                f"Labels must be class ids, which are whole numbers. Received: {place} with "
                f"{_some(broken)}. Values to predict need losses for values, such as loss='mse' "
                "and kd_loss=keras_ats.losses.RegressionKD(); probabilities need a row for each "
                f"sample, one per class: {num_classes}."
            )
    lowest, highest = np.min(labels, initial=0), np.max(labels, initial=0)
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"Labels must be class ids from 0 to {num_classes - 1}, because the models have "
            f"{num_classes} classes. Received: labels from {lowest} to {highest} as {place}. Ids "
            "that count from 1 need `labels - 1`; positions to leave out need a sample weight of 0 "
            "or a mask, and an id within the range."
        )


def _check_rows(labels: np.ndarray, place: str) -> None:
    # Where a sample has many positions, a row of zeros is the usual label of padding.
    may_be_empty = labels.ndim > 2
    for rows in _blocks(labels.reshape(-1, labels.shape[-1])):
        sums = rows.sum(axis=-1)
        right = _within(rows).all(axis=-1) & (np.abs(sums - 1) <= ROUNDING)
        if may_be_empty:
            right |= (rows == 0).all(axis=-1)
        if not right.all():
            row = rows[~right][0]
            raise ValueError(
                "Labels that are rows must hold a probability for each class, which sum to 1. "
                f"Received: {place} with the row {_shown(row)}, whose sum is {row.sum():g}. "
                f"{_remedy(row)}."
            )


def _remedy(row: np.ndarray) -> str:
    """What to do with a row that is no label, by what it looks like."""
    if not np.isfinite(row).all():
        return "Remove samples without a label, or give them a sample weight of 0"
    if (row == 0).all():
        return "Give samples without a label a sample weight of 0, or remove them"
    if (row >= 0).all() and abs(row.sum() - 100) <= 100 * ROUNDING:
        return "It looks like percent: divide by 100"
    if np.isin(row, (0, 1)).all():
        return (
            "Classes that do not exclude each other need sigmoid heads and "
            "kd_loss=keras_ats.losses.BernoulliKD(4, 2)"
        )
    return "Logits become probabilities by keras.ops.softmax, counts by division by their sum"


def _check_answers(labels: np.ndarray, rule: LabelRule, place: str) -> None:
    for answers in _blocks(labels.reshape(-1)):
        wrong = ~_within(answers)
        for label in rule.ignored:
            wrong &= answers != label
        if wrong.any():
            raise ValueError(
                "Labels of sigmoid units must be within [0, 1]: 1 where a class applies, 0 where "
                f"it does not. Received: {place} with {_some(answers[wrong])}. Map -1 and 1, or 0 "
                "and 255, to 0 and 1; class ids become rows by keras.ops.one_hot; classes of which "
                "nothing is known need BernoulliKD(unknown_label=-1)."
            )


def _within(values: np.ndarray) -> np.ndarray:
    return np.abs(values - 0.5) <= 0.5 + ROUNDING


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows as float64, some at a time."""
    step = max(1, _BLOCK // max(1, rows.shape[-1] if rows.ndim > 1 else 1))
    for start in range(0, len(rows), step):
        yield rows[start : start + step].astype("float64")


def _some(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(values)[:3])


def _shown(row: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in row[:5])
    return f"[{shown}, ...]" if len(row) > 5 else f"[{shown}]"


def _kind_of(loss: Any) -> Kind | None:
    """What a supervised loss reads; None without one."""
    if loss is None:
        return None
    if isinstance(loss, LabelCrossentropy):
        return "classes"
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return "values"
    source = loss if hasattr(loss, "__name__") else type(loss)
    # A loss of the user's may read anything, whatever it is called.
    is_of_keras = str(source.__module__).startswith("keras.")
    return _KINDS.get(source.__name__, "values") if is_of_keras else "values"
