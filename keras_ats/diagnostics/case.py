"""What a check-up is made on: what both models say of one batch, and how they are read."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Spoken:
    """What one model says of the batch.

    Attributes:
        role: `"teacher"` or `"student"`.
        logits: As they are read, float64, shape `(N, ..., C)`.
        rows: The same as rows over classes, shape `(M, C)`; of sigmoid units `(M, 2)`.
        raw: What the model itself returned, where it is said to return probabilities, else None.
    """

    role: str
    logits: np.ndarray
    rows: np.ndarray
    raw: np.ndarray | None = None


@dataclass
class Case:
    """All that is known.

    Attributes:
        teacher: What the teacher says.
        student: What the student says.
        ids: Labels as class ids, one for each of `rows`.
        is_sigmoid: Whether units are yes-or-no questions.
        teacher_alone: What the teacher says of each half of the batch by itself, as `logits`.
        other_inputs: The teacher's accuracy on inputs normalised otherwise, by what was done.
        targets: Entropy of the soft targets over its largest, 0 to 1; None where a loss has none.
        kd_gradients: Gradient of the distillation loss in the student's logits, at two places.
        label_gradients: That of the labels' cross-entropy, at the same.
        weights: Of distillation and of labels.
        outside: Labels that are no class, which is left out of all else.
        has_changed: Names of the teacher's variables that running it changed.
    """

    teacher: Spoken
    student: Spoken
    ids: np.ndarray
    is_sigmoid: bool
    teacher_alone: np.ndarray
    other_inputs: dict[str, float] = field(default_factory=dict)
    targets: float | None = None
    kd_gradients: tuple[np.ndarray, ...] = ()
    label_gradients: tuple[np.ndarray, ...] = ()
    weights: tuple[float, float] = (0.5, 0.5)
    has_changed: tuple[str, ...] = ()
    outside: np.ndarray = field(default_factory=lambda: np.zeros(0, "int64"))


def rows_of(logits: np.ndarray, is_sigmoid: bool) -> np.ndarray:
    """Returns logits as rows over classes; a sigmoid unit as the two classes that it decides."""
    if not is_sigmoid:
        return logits.reshape(-1, logits.shape[-1])
    flat = logits.reshape(-1)
    return np.stack([-flat / 2, flat / 2], axis=-1)


def accuracy(rows: np.ndarray, ids: np.ndarray) -> float:
    """Returns the share of rows whose top class is the label."""
    return float(np.mean(rows.argmax(-1) == ids))


def softmax(rows: np.ndarray) -> np.ndarray:
    """Returns probabilities of rows of logits."""
    terms = np.exp(rows - rows.max(-1, keepdims=True))
    return np.asarray(terms / terms.sum(-1, keepdims=True))


def best_renaming(rows: np.ndarray, ids: np.ndarray) -> tuple[float, dict[int, int]]:
    """Returns the accuracy if classes were renamed for the best, and who is called what.

    Args:
        rows: Logits, shape `(M, C)`.
        ids: Labels, shape `(M,)`.
    """
    classes = rows.shape[-1]
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (ids, rows.argmax(-1)), 1)
    left: Any = counts.copy()
    renamed: dict[int, int] = {}
    for _ in range(classes):
        label, said = np.unravel_index(left.argmax(), left.shape)
        if left[label, said] <= 0:
            break
        renamed[int(label)] = int(said)
        left[label, :] = left[:, said] = -1
    right = sum(counts[label, said] for label, said in renamed.items())
    return float(right / len(ids)), renamed
