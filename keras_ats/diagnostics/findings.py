"""What is known of one teacher: numbers, curves, and each class by itself."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from keras_ats.diagnostics.advice import Suggestion, suggestion_for, wrong_spread
from keras_ats.diagnostics.calibration import (
    Calibration,
    best_temperature,
    calibrate,
    likelihood,
)
from keras_ats.diagnostics.logits import Said
from keras_ats.diagnostics.softening import Softening, soft_targets, soften
from keras_ats.ops.absent_classes import present_classes

# Of figure 7 of the ATS paper: the two temperatures for each one temperature.
ATS_FACTORS = (1.25, 0.75)


@dataclass(frozen=True)
class TeacherFindings:
    """What `diagnose` found of one teacher.

    Attributes:
        name: Its name.
        said: Logits and labels.
        samples: How many.
        classes: How many.
        accuracy: Share of samples whose top class is the label.
        likelihood: Mean negative log-likelihood of the labels.
        correct_logit: Mean logit of the correct class, less the mean of the wrong ones.
        wrong_spread: Mean standard deviation of a sample's wrong logits.
        best_temperature: The one temperature with the best likelihood; above 1 for a teacher that
            is surer than it is right.
        calibration: At temperature 1.
        plain: Soft targets at temperature 1.
        one_temperature: Soft targets at each of the temperatures.
        ats: The same under ATS, correct and wrong temperature 1.25 and 0.75 times each.
        suggestion: Two temperatures, with the reason.
        suggested: Soft targets at these.
        class_accuracy: Accuracy of each class, NaN for those without samples, shape `(C,)`.
        class_correct_logit: `correct_logit` of each class.
        class_wrong_spread: `wrong_spread` of each class.
        class_count: Samples of each class.
        similarity: Mean soft targets of the samples of each class at the suggested temperatures,
            shape `(C, C)`: row by row, what resembles what.
    """

    name: str
    said: Said
    samples: int
    classes: int
    accuracy: float
    likelihood: float
    correct_logit: float
    wrong_spread: float
    best_temperature: float
    calibration: Calibration
    plain: Softening
    one_temperature: tuple[Softening, ...]
    ats: tuple[Softening, ...]
    suggestion: Suggestion
    suggested: Softening
    class_accuracy: np.ndarray
    class_correct_logit: np.ndarray
    class_wrong_spread: np.ndarray
    class_count: np.ndarray
    similarity: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain lists and floats; logits and similarities are left out."""
        left_out = ("said", "similarity")
        return {
            field.name: _plain(getattr(self, field.name))
            for field in fields(self)
            if field.name not in left_out
        }


def look_at(name: str, said: Said, temperatures: tuple[float, ...]) -> TeacherFindings:
    """Finds out what is to be known of a teacher.

    Args:
        name: Its name.
        said: Logits and labels.
        temperatures: Of the curves.
    """
    logits, labels = said
    classes = logits.shape[-1]
    at_label = np.take_along_axis(logits, labels[:, None], -1)[:, 0].astype("float64")
    present = present_classes(logits)
    others = np.where(present, logits.astype("float64"), 0.0).sum(-1) - at_label
    margin = at_label - others / np.maximum(present.sum(-1) - 1, 1)
    spread = wrong_spread(said)
    right = logits.argmax(-1) == labels
    suggestion = suggestion_for(said)
    pair = suggestion.correct_temperature, suggestion.wrong_temperature
    counts = np.bincount(labels, minlength=classes)
    targets = soft_targets(said, *pair)
    return TeacherFindings(
        name=name,
        said=said,
        samples=len(labels),
        classes=classes,
        accuracy=float(right.mean()),
        likelihood=likelihood(said),
        correct_logit=float(margin.mean()),
        wrong_spread=float(spread.mean()),
        best_temperature=best_temperature(said),
        calibration=calibrate(said),
        plain=soften(said, 1.0, 1.0),
        one_temperature=tuple(soften(said, one, one) for one in temperatures),
        ats=tuple(soften(said, *(f * one for f in ATS_FACTORS)) for one in temperatures),
        suggestion=suggestion,
        suggested=soften(said, *pair),
        class_accuracy=_by_class(right, labels, counts),
        class_correct_logit=_by_class(margin, labels, counts),
        class_wrong_spread=_by_class(spread, labels, counts),
        class_count=counts,
        similarity=_mean_targets(targets, labels, counts),
    )


def _by_class(values: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    sums = np.bincount(labels, weights=values, minlength=len(counts))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean_targets(targets: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    order = np.argsort(labels, kind="stable")
    there = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[there])[:-1]])
    means = np.full((len(counts), targets.shape[-1]), np.nan)
    sums = np.add.reduceat(targets[order].astype("float64"), starts, axis=0)
    means[there] = sums / counts[there, None]
    return means


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    # JSON has no NaN.
    return None if isinstance(value, float) and np.isnan(value) else value
