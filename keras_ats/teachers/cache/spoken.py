"""A teacher as the cache runs it: from a batch of NumPy arrays to logits by output name."""

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_ats.checks import as_integer, as_string
from keras_ats.record import Needs
from keras_ats.teachers.cache.rows import Array
from keras_ats.teachers.live import LiveTeacher
from keras_ats.types import Config, Nested
from keras_ats.views.read import FromLogits

ONLY = "logits"
"""Name of the output of a teacher that has one."""


class Spoken:
    """What a teacher says of batches, and what tells it from other teachers.

    Args:
        teacher: A Keras model, a `LiveTeacher`, or a function from a batch of inputs to logits.
        name: Tells a function from others; names a model besides its weights.
        from_logits: As for `Distiller(teacher_from_logits=...)`.
        classes: How many classes are kept, from the first; None for all.

    Raises:
        TypeError: If the teacher is none.
        ValueError: If a function has no name, or the ending of a model is not known.
    """

    def __init__(
        self, teacher: Any, name: str | None, from_logits: FromLogits, classes: int | None
    ) -> None:
        self.name = None if name is None else as_string(name, "name", "a name for the teacher")
        self.classes = None if classes is None else as_integer(classes, "classes", 2)
        self.is_half = False
        if isinstance(teacher, keras.Model):
            teacher = LiveTeacher(teacher, from_logits)
        if isinstance(teacher, LiveTeacher):
            self._from_model(teacher)
        else:
            self._from_function(teacher, from_logits)

    def _from_model(self, teacher: LiveTeacher) -> None:
        teacher.prepare(Needs())
        view = teacher.view
        view.require(view.output_names)
        # A model with one output is found by no name, and Keras numbers those it makes up.
        several = len(view.output_names) > 1
        self.output_names = list(view.output_names) if several else [ONLY]
        self.description: Config = {
            "name": self.name,
            "weights": weights_digest(teacher.model),
            "reads": {
                name: str(view.endings[own])
                for name, own in zip(self.output_names, view.output_names, strict=True)
            },
            "classes": self.classes,
        }
        model = teacher.model
        dtypes = {getattr(layer, "compute_dtype", "float32") for layer in [model, *model.layers]}
        self.is_half = bool(dtypes & {"float16", "bfloat16"})
        runner = _Runner(teacher)
        self._run: Callable[[Nested], Any] = runner.predict_on_batch
        # Another size of batch would be compiled anew.
        self._needs_full_batches = True

    def _from_function(self, teacher: Any, from_logits: FromLogits) -> None:
        if not callable(teacher) or isinstance(teacher, type):
            raise TypeError(
                "`teacher` must be a keras.Model, a LiveTeacher, or a function from a batch of "
                f"inputs to logits. Received: teacher={teacher!r} of type "
                f"{type(teacher).__name__}."
            )
        if self.name is None:
            raise ValueError(
                "`name` must tell this teacher from others, for a function has no weights that "
                f"could. Received: name=None with teacher={teacher!r}. Pass a name that changes "
                'when the teacher does, such as name="resnet50-2026-11".'
            )
        if from_logits not in (None, True):
            raise ValueError(
                "`from_logits` must be True, or left out, where the teacher is a function. "
                f"Received: from_logits={from_logits!r}. Let the function return logits; of "
                "probabilities keras_ats.ops.centered_log_probabilities makes some."
            )
        self.output_names = [ONLY]
        self.description = {
            "name": self.name,
            "weights": None,
            "reads": {ONLY: "logits"},
            "classes": self.classes,
        }
        self._run = teacher
        self._needs_full_batches = False

    def __call__(self, inputs: Nested, size: int) -> dict[str, Array]:
        """Returns logits by output name, float32, checked.

        Args:
            inputs: A batch.
            size: Of a full batch.
        """
        count = len(keras.tree.flatten(inputs)[0])
        if self._needs_full_batches and count < size:
            inputs = keras.tree.map_structure(lambda leaf: _filled(leaf, size), inputs)
        said = self._run(inputs)
        named = (
            said if isinstance(said, dict) else dict(zip(self.output_names, [said], strict=False))
        )
        return {name: self._checked(named[name], count) for name in self.output_names}

    def _checked(self, said: Any, count: int) -> Array:
        """Logits of the samples, or raises if these are none."""
        if hasattr(said, "detach"):
            said = said.detach().cpu()
        logits = np.asarray(said)[:count]
        if len(logits) != count:
            raise ValueError(
                "The teacher must return one row for each sample. Received: shape "
                f"{np.shape(said)} for {count} samples."
            )
        logits = checked_logits(logits, "what the teacher returns")
        if self.classes is not None:
            if logits.shape[-1] < self.classes:
                raise ValueError(
                    f"`classes` must be at most the teacher's. Received: classes={self.classes} "
                    f"for a teacher with {logits.shape[-1]}."
                )
            logits = logits[..., : self.classes]
        return logits


class _Runner(keras.Model):
    """Runs a teacher through `predict_on_batch`, which compiles it on each backend."""

    def __init__(self, teacher: LiveTeacher) -> None:
        super().__init__(name="cached_teacher", autocast=False)
        # Tracked by Keras, so that JAX hands its weights in instead of making constants of them.
        self.teacher_model = teacher.model
        self._teacher = teacher
        self.built = True
        if not teacher.supports_jit:
            self.jit_compile = False

    def call(self, inputs: Nested) -> Any:
        """Returns the teacher's logits."""
        return self._teacher(self._teacher.split(inputs)[1]).logits


def checked_logits(given: Any, what: str) -> Array:
    """Returns logits as float32 `(n, ..., classes)`, or raises if these are none.

    Args:
        given: An array.
        what: How to speak of it.
    """
    array = np.asarray(given)
    is_number = np.issubdtype(array.dtype, np.number) or array.dtype.name == "bfloat16"
    if not is_number or array.ndim < 2 or array.shape[-1] < 1 or not len(array):
        raise ValueError(
            f"{what} must be logits of shape (batch, ..., classes), or (batch, ..., 1) of one "
            f"sigmoid unit. Received: {array.dtype} of shape {array.shape}. One number for each "
            "sample becomes a unit by logits[..., None]."
        )
    logits = array.astype(np.float32)
    bad = ~np.isfinite(logits.max(axis=-1))
    if bad.any():
        raise ValueError(
            f"{what} must be finite, but for classes that a teacher does not have (minus "
            f"infinity). Received: NaN or infinity in {bad.sum()} of {bad.size} rows. Look at the "
            "teacher and its inputs."
        )
    if logits.min() >= 0 and np.allclose(logits.sum(axis=-1), 1.0, atol=1e-3):
        raise ValueError(
            f"{what} must be logits, not probabilities: no entry is negative, and all rows sum to "
            f"1. Received: rows such as {np.round(logits.reshape(-1, logits.shape[-1])[0, :5], 4)}."
            " Take what the softmax is applied to; if that cannot be had, "
            "keras_ats.ops.centered_log_probabilities(probabilities)."
        )
    return logits


def weights_digest(model: keras.Model) -> str:
    """Returns what tells a model's weights from any other; names do not count."""
    found = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
        found.update(f"{value.dtype}{value.shape}".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def _filled(leaf: Array, size: int) -> Array:
    """A batch with its last sample repeated up to a size."""
    leaf = np.asarray(leaf)
    return np.concatenate([leaf, np.repeat(leaf[-1:], size - len(leaf), axis=0)])
