"""The faults that a check-up knows: each function looks for one, or for some of a kind."""

from collections.abc import Callable, Iterator

import numpy as np

from keras_ats.diagnostics.case import Case, Spoken, accuracy, best_renaming
from keras_ats.diagnostics.finding import Finding

Examiner = Callable[[Case], Iterator[Finding]]

# Of the labels' gradient, and its inverse: what remains is no mix of two teachers any more.
_RATIO = 30.0
_NEAR_UNIFORM = 0.998  # of the largest entropy
_NEAR_ONE_HOT = 0.01


def finite(case: Case) -> Iterator[Finding]:
    """Looks for NaN and infinity."""
    for one in (case.teacher, case.student):
        bad = np.isnan(one.logits) | (one.logits == np.inf)
        if bad.any():
            yield Finding(
                f"{one.role} is not finite",
                f"{bad.sum()} of {bad.size} logits of the {one.role} are NaN or infinite.",
                "Its weights, or the inputs, hold NaN or overflow; every loss will be NaN.",
                "Look at the inputs with np.isfinite(x).all(), and load sound weights.",
            )


def endings(case: Case) -> Iterator[Finding]:
    """Looks for probabilities taken for logits, and the other way round."""
    for one in (case.teacher, case.student):
        argument = f"{one.role}_from_logits"
        if one.raw is not None:
            outside = (one.raw < -1e-4) | (one.raw > 1 + 1e-4)
            if outside.any():
                yield Finding(
                    f"{one.role}'s logits taken for probabilities",
                    f"The {one.role} is said to return probabilities, and returns values from "
                    f"{one.raw.min():.2f} to {one.raw.max():.2f}.",
                    "What is read as its logits is meaningless.",
                    f"Pass {argument}=True.",
                )
        elif _are_probabilities(one, case.is_sigmoid):
            yield Finding(
                f"{one.role}'s probabilities taken for logits",
                f"All that is read as logits of the {one.role} lies within [0, 1]"
                f"{'' if case.is_sigmoid else ' and sums to 1'}.",
                "A softmax of a softmax: soft targets are all but uniform, whatever the teacher "
                "knows.",
                "If the model ends in two softmaxes take one away; if it was said to return "
                f"logits leave {argument} out, or pass {argument}=False for a subclassed model.",
            )
        elif _are_log_probabilities(one, case.is_sigmoid):
            yield Finding(
                f"{one.role} returns log-probabilities",
                f"All that is read as logits of the {one.role} is below 0, and its exponentials "
                "sum to 1.",
                "ATS is all but switched off: the correct class's log-probability is near 0, and "
                "its temperature divides nothing.",
                "Give the model an ending that keeps the logits: take the log_softmax away.",
            )


def mode(case: Case) -> Iterator[Finding]:
    """Looks for a teacher that trains while it teaches."""
    teacher = case.teacher.logits
    scale = np.nanstd(teacher) + 1e-12
    difference = np.nanmax(np.abs(case.teacher_alone - teacher)) / scale
    if difference > 0.02:
        yield Finding(
            "teacher in training mode",
            "The teacher says other things of a sample when its batch holds other samples: "
            f"logits differ by up to {difference:.2f} of their spread.",
            "BatchNormalization or Dropout runs as in training, though it is called with "
            "training=False.",
            "Look for training=True in the teacher's layers or `call`.",
        )
    if case.has_changed:
        yield Finding(
            "teacher changed by being run",
            f"Running it changed {list(case.has_changed)[:3]}.",
            "It would teach something else in each step.",
            "Look for layers that update their variables outside training.",
        )


def knowledge(case: Case) -> Iterator[Finding]:
    """Looks for the reason why a teacher is no good on these samples; at most one is named."""
    rows, ids = case.teacher.rows, case.ids
    own, samples = accuracy(rows, ids), len(ids)
    noise = 2 * (0.25 / samples) ** 0.5
    classes = rows.shape[-1]
    common = float(np.bincount(ids).max() / samples)
    renamed_accuracy, renamed = best_renaming(rows, ids)
    seen = f"The teacher is right on {own:.0%} of {samples} labels"
    better = max(case.other_inputs, key=lambda each: case.other_inputs[each], default=None)
    gain = case.other_inputs[better] - own if better is not None else 0.0
    if classes == 2 and own < 0.5 - max(noise, 0.1):
        yield Finding(
            "labels the other way round",
            f"{seen}, and would be on {1 - own:.0%} if they were the other way round.",
            "A teacher that is this wrong on two classes knows the answer: 0 and 1 have changed "
            "places in the labels, or in what it was trained on.",
            "Compare the class names of the data with those of the teacher.",
        )
    elif classes > 2 and samples >= 3 * classes and renamed_accuracy > max(0.5, own + 0.25):
        moved = {label: said for label, said in renamed.items() if label != said}
        pairs = ", ".join(f"{label} is its {said}" for label, said in sorted(moved.items())[:4])
        yield Finding(
            "classes in another order",
            f"{seen}, and would be on {renamed_accuracy:.0%} if classes were renamed: {pairs}.",
            "Teacher and data count the same classes in another order, as folders sorted by name "
            "do.",
            "Map the labels to the teacher's order, or put the units of its last layer in yours.",
        )
    elif gain > max(0.15, 1.5 * noise):
        yield Finding(
            "inputs not as the teacher expects them",
            f"{seen}, and on {case.other_inputs[str(better)]:.0%} with inputs {better}.",
            "It was trained on inputs of another scale.",
            "Pass teacher_inputs=, a function that makes its inputs of the student's, or "
            "normalise both alike.",
        )
    elif own <= common + noise / 2:
        yield Finding(
            "teacher knows nothing here",
            f"{seen}; always saying the most common class would be on {common:.0%}.",
            "It is untrained, its weights were not loaded, or it was trained on something else.",
            "Load its weights, and evaluate it by itself on these samples.",
        )
    else:
        student = accuracy(case.student.rows, ids)
        if student > own + noise:
            yield Finding(
                "student better than its teacher",
                f"{seen}, the student on {student:.0%}.",
                "There is little to learn from such a teacher.",
                "Take a better teacher, or train on labels alone.",
            )


def targets(case: Case) -> Iterator[Finding]:
    """Looks for soft targets that say nothing."""
    if case.targets is None:
        return
    if case.targets > _NEAR_UNIFORM:
        yield Finding(
            "soft targets all but uniform",
            f"Their entropy is {case.targets:.2%} of that of equal probabilities.",
            "The student is taught to know nothing.",
            "Lower the temperatures: keras_ats.suggest_temperatures(teacher, (x, y)) says which.",
        )
    elif case.targets < _NEAR_ONE_HOT:
        yield Finding(
            "soft targets all but one-hot",
            f"Their entropy is {case.targets:.2%} of that of equal probabilities.",
            "They repeat the label; what resembles what is not told.",
            "Raise the temperatures: keras_ats.suggest_temperatures(teacher, (x, y)) says which.",
        )


def gradients(case: Case) -> Iterator[Finding]:
    """Looks for a distillation loss that does not move, or drowns the labels."""
    if not case.kd_gradients:
        return
    sizes = [float(np.linalg.norm(each)) for each in case.kd_gradients]
    if not all(np.isfinite(sizes)):
        yield Finding(
            "distillation loss is not finite",
            "Its gradient in the student's logits is NaN or infinite.",
            "Training would lose all weights in the first step.",
            "Look at the labels' range, and at what the loss divides by.",
        )
        return
    if max(sizes) < 1e-9:
        yield Finding(
            "distillation loss is constant",
            "It does not change when the student's logits do.",
            "The student learns nothing from the teacher: the loss does not read the student, or "
            "stops its gradient.",
            "Look where the loss uses lesson.student.logits.",
        )
        return
    kd_weight, student_weight = case.weights
    if not (kd_weight and student_weight):
        return
    of_labels = [float(np.linalg.norm(each)) for each in case.label_gradients]
    # At two places: a student that has learned from its teacher is not pulled by it any more.
    ratios = [
        kd_weight * size / max(student_weight * other, 1e-12)
        for size, other in zip(sizes, of_labels, strict=True)
    ]
    ratio = min(ratios, key=lambda each: abs(np.log(max(each, 1e-30))))
    if ratio > _RATIO:
        yield Finding(
            "teacher drowns the labels",
            f"The teacher's gradient is {ratio:.3g} times the labels', weights included.",
            "The labels count for next to nothing, and the step is far larger than the optimizer "
            "was set for.",
            "Lower kd_weight, or take a loss that is scaled by its temperature.",
        )
    elif ratio < 1 / _RATIO:
        yield Finding(
            "labels drown the teacher",
            f"The teacher's gradient is {ratio:.3g} times the labels', weights included.",
            "The student is trained as if it were alone.",
            "Raise kd_weight, or scale the loss by the squared temperature.",
        )


def labels(case: Case) -> Iterator[Finding]:
    """Looks for labels that are no class, and for a batch that cannot tell."""
    classes, strange = case.teacher.rows.shape[-1], np.unique(case.outside)
    # One id far off, such as 255 or -1, marks what nobody has labelled.
    if len(strange) > 1 or classes in strange:
        yield Finding(
            "labels out of range",
            f"{len(case.outside)} of {len(case.outside) + len(case.ids)} labels are not within 0 "
            f"and {classes - 1}, but from {strange[0]} to {strange[-1]}.",
            "Training stops at them, or its loss becomes NaN.",
            "Count classes from 0, or give both models more of them. An id that marks what is not "
            "labelled is passed to the supervised loss as ignore_class.",
        )
    if len(np.unique(case.ids)) == 1:
        yield Finding(
            "one class only",
            f"All {len(case.ids)} labels are {case.ids[0]}.",
            "Nothing can be said of a teacher that is asked one thing; data sorted by class train "
            "badly too.",
            "Shuffle the data, and check on a batch of several classes.",
        )


EXAMINERS: tuple[Examiner, ...] = (endings, mode, labels, knowledge, targets, gradients)


def _are_probabilities(one: Spoken, is_sigmoid: bool) -> bool:
    logits = one.logits
    within = bool(logits.min() >= -1e-6 and logits.max() <= 1 + 1e-6)
    if is_sigmoid:
        return within and logits.size >= 16
    return within and bool(np.abs(logits.sum(-1) - 1).max() < 1e-2)


def _are_log_probabilities(one: Spoken, is_sigmoid: bool) -> bool:
    logits = one.logits
    if is_sigmoid or logits.max() > 1e-4:
        return False
    return bool(np.abs(np.exp(logits).sum(-1) - 1).max() < 1e-2)
