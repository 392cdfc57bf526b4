"""Checks of arguments that several classes share. Each error names the argument and the remedy."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ats.argument_types import as_integer as as_integer
from keras_ats.argument_types import as_number as as_number
from keras_ats.ops.labels import are_class_ids
from keras_ats.types import Shape, Tensor


def positive_number(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not a finite number above zero."""
    number = as_number(value, name, "a number above 0, such as 4.0")
    if number <= 0 or not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number above 0. Received: {name}={value!r}. "
            "Temperatures divide logits: 1.0 leaves them as they are, larger values soften."
        )
    return number


def fraction(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is not within [0, 1]."""
    number = as_number(value, name, "a number from 0 to 1, such as 0.5")
    if not 0 <= number <= 1:
        raise ValueError(f"`{name}` must be within [0, 1]. Received: {name}={value!r}.")
    return number


def non_negative_number(value: Any, name: str) -> float:
    """Returns `value` as a float, or raises if it is negative or not finite."""
    number = as_number(value, name, "a number of at least 0, such as 1.0")
    if number < 0 or not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number of at least 0. Received: {name}={value!r}."
        )
    return number


def one_of(value: Any, name: str, allowed: Sequence[str]) -> str:
    """Returns `value`, or raises if it is none of the `allowed` strings."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {list(allowed)}. Received: {name}={value!r}.")
    return str(value)


def same_classes(student_logits: Tensor, teacher_logits: Tensor, min_classes: int = 2) -> None:
    """Raises if the two logits cannot be compared class by class, position by position."""
    student_shape, teacher_shape = tuple(student_logits.shape), tuple(teacher_logits.shape)
    compatible = len(student_shape) == len(teacher_shape) and all(
        s is None or t is None or s == t for s, t in zip(student_shape, teacher_shape, strict=False)
    )
    if not compatible:
        raise ValueError(
            "Student and teacher logits must have the same shape, classes last. Received: "
            f"student {student_shape}, teacher {teacher_shape}. If the class counts differ, give "
            "both models the same classes in the same order (slice the wider output)."
        )
    if student_shape[-1] is not None and student_shape[-1] < min_classes:
        raise ValueError(
            f"Soft targets need at least {min_classes} classes on the last axis. Received: shape "
            f"{student_shape}. A single sigmoid unit is a two-class problem: use Dense(2), or "
            "BernoulliKD, which is made for sigmoid units."
        )


def one_label_per_class(labels: Tensor, logits: Tensor) -> None:
    """Raises if the labels' shape is not that of the logits, an answer for every class."""
    label_shape, logit_shape = tuple(labels.shape), tuple(logits.shape)
    if len(label_shape) != len(logit_shape) or label_shape[-1] != logit_shape[-1]:
        raise ValueError(
            "Sigmoid units need a label for each class, 1 if it applies and 0 if not. Received: "
            f"labels of shape {label_shape} for logits of shape {logit_shape}. Expected: "
            f"{logit_shape}; turn class ids into rows with keras.ops.one_hot."
        )


def teacher_and_student(teacher: Any, student: Any) -> None:
    """Raises unless these are two different Keras models."""
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"`{role}` must be a keras.Model. Received: {model!r} of type "
                f"{type(model).__name__}. Expected: Distiller(teacher, student)."
            )
    if teacher is student:
        raise ValueError(
            "Teacher and student are the same model, which would teach itself what it knows. "
            f"Received: '{teacher.name}' twice. For self-distillation pass a trained copy as the "
            "teacher: keras.models.clone_model, then set_weights."
        )


def labels_given(labels: Any) -> None:
    """Raises if a supervised loss has no labels to learn from."""
    if labels is None:
        raise ValueError(
            "There are no labels to learn from. Received: y=None. Pass labels to `fit`, or learn "
            "from the teacher alone: compile(loss=None, kd_weight=1.0, "
            "kd_loss=keras_ats.losses.TemperatureKD(4))."
        )


def same_class_counts(student: Sequence[Shape], teacher: Sequence[Shape]) -> None:
    """Raises if the outputs' shapes show different numbers of classes; unknown ones pass."""
    for student_shape, teacher_shape in zip(student, teacher, strict=False):
        counts = (student_shape[-1], teacher_shape[-1])
        if None not in counts and counts[0] != counts[1]:
            raise ValueError(
                "Student and teacher must have the same classes. Received: a student with "
                f"{counts[0]} classes and a teacher with {counts[1]}. Rebuild the student's last "
                "layer for the teacher's classes, or slice the wider model's output."
            )


def labels_in_memory(labels: Any, shapes: Sequence[Shape], ignored: int | None = None) -> None:
    """Raises if labels given as one array do not fit, or hold class ids out of range.

    Args:
        labels: Array of ids or rows.
        shapes: Shapes of the model's outputs; more or fewer than one are not checked.
        ignored: An id that the supervised loss leaves out.
    """
    num_classes = shapes[0][-1] if len(shapes) == 1 else None
    # A single sigmoid unit has no class ids: its labels are 0 and 1.
    if num_classes in (None, 1):
        return
    # All samples are looked at, so a batch size that the model was built for says nothing.
    if not are_class_ids(labels, keras.KerasTensor((None, *shapes[0][1:]))):
        return
    ids = keras.ops.convert_to_numpy(labels)
    ids = ids if ignored is None else ids[ids != ignored]
    lowest, highest = np.min(ids, initial=0), np.max(ids, initial=0)
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"Labels must be class ids from 0 to {num_classes - 1}, because the models have "
            f"{num_classes} classes. Received: labels from {lowest} to {highest}. Ids that count "
            "from 1 need `labels - 1`; positions to leave out need a sample weight of 0 or a mask, "
            "and an id within the range."
        )
