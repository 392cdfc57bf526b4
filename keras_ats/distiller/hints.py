"""Warnings of what is allowed, and most often not what was meant."""

import math
import warnings
from typing import Any

import keras

from keras_ats._keras import all_layers
from keras_ats.distiller.objective import Objective
from keras_ats.teachers.cache.cached_teacher import CachedTeacher

# Steps of a model's own, which the distiller's stand in for.
_STEPS = ("train_step", "test_step", "compute_loss", "compute_metrics")
# A teacher may be smaller than its student, but hardly ever is it this much smaller.
_FACTOR = 10
_hinted = False


def hint_if_nothing_is_learned(objective: Objective, *, has_labels: bool) -> None:
    """Warns of weights that are all 0.

    Args:
        objective: The objective.
        has_labels: Whether there is a supervised loss too.
    """
    if not (objective.weighs_teacher or (has_labels and objective.weighs_labels)):
        _warn(
            "Nothing will be learned: neither the labels nor the teacher count. Received: "
            "kd_weight=0 without a supervised loss of another weight. Expected: one of the two "
            "above 0, or a callback that raises kd_weight, such as KDWeightWarmup."
        )


def hint_if_student_has_own_steps(student: keras.Model) -> None:
    """Warns of methods of the student's class that a distiller never calls."""
    own = [name for name in _STEPS if getattr(type(student), name) is not _of_keras(student, name)]
    if own:
        _warn(
            f"The student '{student.name}' is a {type(student).__name__} with a "
            f"{' and a '.join(own)} of its own, which will not be called: the distiller runs its "
            "own steps. Losses that they add belong into `add_loss`, a layer or `compile`."
        )


def hint_if_teacher_is_small(teacher: keras.Model, student: keras.Model) -> None:
    """Warns if teacher and student seem to have changed places; the student is overwritten."""
    sizes = [_size(model) for model in (teacher, student)]
    if 0 < _FACTOR * sizes[0] < sizes[1]:
        _warn(
            f"The teacher '{teacher.name}' has far fewer parameters than the student "
            f"'{student.name}', which training will change. Received: {sizes[0]:,} and "
            f"{sizes[1]:,} parameters. Expected: Distiller(teacher, student), in this order."
        )


def hint_if_student_augments(teacher: Any, student: keras.Model) -> None:
    """Warns if a student sees what a cached teacher was not shown."""
    if not isinstance(teacher, CachedTeacher):
        return
    random = [layer.name for layer in all_layers(student) if _is_augmentation(layer)]
    if random:
        _warn(
            f"The student '{student.name}' augments what it is given, in {random}, after the "
            "teacher was shown it clean: the cached logits are of another picture. Take these "
            "layers out and augment before the cache, with keras_ats.data.Samples or in the data "
            "set, or accept that the teacher's view is the clean one."
        )


def hint_if_plain_checkpoint(callbacks: Any) -> None:
    """Warns, once in a process, of a `ModelCheckpoint` that will save a whole distiller.

    Args:
        callbacks: What `fit` was given.
    """
    global _hinted
    if _hinted:
        return
    given = getattr(callbacks, "callbacks", callbacks)  # a CallbackList, or a list, or one
    for callback in keras.tree.flatten(given):
        if not isinstance(callback, keras.callbacks.ModelCheckpoint):
            continue
        if callback.save_weights_only or getattr(callback, "saves_student_alone", False):
            continue
        _hinted = True
        _warn(
            f"ModelCheckpoint({callback.filepath!r}) saves the whole distiller: teacher, student, "
            "loss and optimizer, to be loaded with keras_ats. For the student by itself use "
            "keras_ats.callbacks.StudentCheckpoint, which takes the same arguments; to go on with "
            "a stopped run, keras_ats.callbacks.Backup."
        )
        return


def _is_augmentation(layer: Any) -> bool:
    name = type(layer).__name__
    return type(layer).__module__.startswith("keras") and (
        name.startswith("Random") or name in ("AugMix", "MixUp", "CutMix", "RandAugment")
    )


def _size(model: keras.Model) -> int:
    """Number of parameters, without the statistics that training in float8 keeps of each."""
    return sum(
        math.prod(weight.shape)
        for weight in model.weights
        if not getattr(weight, "overwrite_with_gradient", False)
    )


def _of_keras(model: keras.Model, name: str) -> Any:
    """A method as Keras has it for models of this kind."""
    base: Any = next(one for one in type(model).__mro__ if one.__module__.startswith("keras."))
    return getattr(base, name)


def _warn(message: str) -> None:
    # From here over the hint and the distiller's method to the line of the user's script.
    warnings.warn(message, stacklevel=4)
