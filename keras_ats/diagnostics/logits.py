"""What a teacher says of data: its logits and the labels, position by position, in NumPy."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from keras_ats.checks import as_boolean, as_integer, as_string, as_whole_number, is_endless
from keras_ats.record import pick
from keras_ats.teachers.live import TeacherInputs, as_inputs, as_teacher
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Nested, Tensor
from keras_ats.views.read import FromLogits

Data: TypeAlias = Any
"""`(x, y)` of arrays, or an iterable of batches `(x, y)` or `(x, y, weights)`."""


class Said(NamedTuple):
    """Logits and labels of many positions.

    Attributes:
        logits: float32 array of shape `(N, C)`.
        labels: int array of shape `(N,)`.
    """

    logits: np.ndarray
    labels: np.ndarray


class Reading(NamedTuple):
    """How a teacher and its data are read; what `diagnose` takes besides them."""

    from_logits: FromLogits = None
    inputs: TeacherInputs = None
    output: str | None = None
    ignore_label: int | None = None
    batch_size: int = 256
    verbose: bool = True

    def checked(self) -> "Reading":
        """Returns the same with plain values, or raises if one cannot be meant."""
        name, ignored = self.output, self.ignore_label
        return Reading(
            check_from_logits(self.from_logits, "from_logits"),
            as_inputs(self.inputs),
            None if name is None else as_string(name, "output", "the name of an output"),
            None if ignored is None else as_whole_number(ignored, "ignore_label"),
            as_integer(self.batch_size, "batch_size"),
            as_boolean(self.verbose, "verbose"),
        )


def check_from_logits(value: Any, name: str) -> FromLogits:
    """Returns `value`, or raises if it does not say whether a model returns logits."""
    if value is None or isinstance(value, Mapping):
        return value
    return as_boolean(value, name)


def said_by(teacher: Any, data: Data, reading: Reading) -> Said:
    """Runs a teacher over data, or takes logits that it has said before.

    Args:
        teacher: A model, a `Teacher`, or an array of logits of shape `(N, ..., C)`.
        data: See `Data`; beside an array of logits, labels alone or `(x, y)`.
        reading: How both are read.

    Raises:
        TypeError: If teacher or data are of another kind.
        ValueError: If labels do not fit the logits.
    """
    if hasattr(teacher, "shape") and hasattr(teacher, "dtype"):
        labels = data[1] if isinstance(data, tuple) else data
        labels = pick(labels, str(reading.output))
        return _finite(_of_positions(_numpy(teacher), _numpy(labels), reading))
    teacher = as_teacher(
        teacher, reading.from_logits, reading.inputs, "a trained, built model, or its logits"
    )
    _check_output(teacher, reading.output)
    _check_family(teacher, reading.output)
    parts = [
        _of_positions(logits, labels, reading)
        for logits, labels in logits_of(teacher, data, reading)
    ]
    if not sum(len(part.labels) for part in parts):
        raise ValueError(
            "`data` holds no labelled sample. Received: "
            f"{len(parts)} batches without any. Expected: (x, y), or batches of them."
        )
    return _finite(Said(*(np.concatenate(each) for each in zip(*parts, strict=True))))


def logits_of(
    teacher: Teacher, data: Data, reading: Reading
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields logits `(B, ..., C)` and labels of each batch.

    Args:
        teacher: The teacher.
        data: See `Data`.
        reading: How both are read.
    """
    say = compiled(teacher)
    batches, count = as_batches(data, reading.batch_size)
    bar = keras.utils.Progbar(count, unit_name="batch") if reading.verbose else None
    for index, (x, y) in enumerate(batches):
        _, given = teacher.split(x)
        logits = pick(say(given), str(reading.output))
        yield _numpy(logits), _numpy(_labels_for(y, list(teacher.output_names), reading.output))
        if bar is not None:
            bar.update(index + 1, finalize=index + 1 == count)


def as_batches(data: Data, batch_size: int) -> tuple[Iterable[tuple[Any, Any]], int | None]:
    """Returns batches `(x, y)` and how many there are; None where nobody knows.

    Args:
        data: See `Data`.
        batch_size: Samples in a batch, where `data` are arrays.
    """
    if isinstance(data, tuple) and len(data) in (2, 3) and not isinstance(data[0], tuple):
        leaves = keras.tree.flatten(data[:2])
        if leaves and all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves):
            size = leaves[0].shape[0]
            if any(leaf.shape[0] != size for leaf in leaves):
                raise ValueError(
                    "`data` must have as many labels as inputs. Received: arrays of "
                    f"{[leaf.shape[0] for leaf in leaves]} samples."
                )
            starts = range(0, size, batch_size)
            return (_slice(data[:2], start, batch_size) for start in starts), len(starts)
    if is_endless(data):
        raise ValueError(
            f"`data` never ends. Received: data={data!r}. Expected: a few hundred samples, such as "
            "data.take(10)."
        )
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        return (_pair(data[index]) for index in range(int(count))), count
    if not isinstance(data, Iterable) or isinstance(data, str | Mapping | tuple):
        raise TypeError(
            "`data` must be (x, y) of arrays, or an iterable of batches (x, y). Received: "
            f"data={data!r} of type {type(data).__name__}."
        )
    return map(_pair, data), _length(data)


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data) if isinstance(data, Sized) else None
    except TypeError:  # A tf.data.Dataset that does not know it, such as one that was filtered.
        return None


def compiled(teacher: Teacher) -> Callable[[Nested], Nested]:
    """Returns a function of a batch that gives the teacher's logits, compiled where that helps."""
    backend = keras.backend.backend()
    if backend == "torch" or not teacher.supports_jit:
        return lambda given: teacher(given).logits
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda given: teacher(given).logits, reduce_retracing=True)
    import jax

    variables = list(teacher.variables)

    def say(values: list[Tensor], given: Nested) -> Nested:
        # As arguments: the teacher's weights would be constants of the program otherwise.
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return teacher(given).logits

    jitted = jax.jit(say)
    return lambda given: jitted([variable.value for variable in variables], given)


def class_ids(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Returns labels of any form as ids; of soft rows the likeliest class.

    Args:
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        logits: Array of shape `(..., C)`.
    """
    rows = labels.shape == logits.shape and logits.shape[-1] > 1
    if rows:
        return labels.argmax(axis=-1)
    if labels.shape == (*logits.shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"`data` has labels that do not fit the logits. Received: labels of shape "
            f"{labels.shape} for logits of shape {logits.shape}. Expected: ids of shape "
            f"{logits.shape[:-1]}, or rows of shape {logits.shape}."
        )
    return _whole_numbers(labels)


def _whole_numbers(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind in "biu":
        return labels.astype("int64")
    is_number = labels.dtype.kind == "f" or labels.dtype.name == "bfloat16"
    strange = labels != np.floor(labels) if is_number else np.ones(labels.shape, bool)
    if strange.any():  # NaN is not equal to itself.
        raise ValueError(
            "Labels must be class ids, whole numbers from 0, or rows over classes. Received: "
            f"{strange.sum()} of {strange.size} that are none, such as "
            f"{labels[strange][0].item()!r}, of dtype {labels.dtype}."
        )
    return labels.astype("int64")


def _finite(said: Said) -> Said:
    """Returns the same, or raises if the softmax of a row is none."""
    bad = ~np.isfinite(said.logits.max(axis=-1))
    if bad.any():
        raise ValueError(
            "The teacher's logits must be finite, but for classes that it does not have (minus "
            f"infinity). Received: NaN or infinity in {bad.sum()} of {bad.size} rows, first in row "
            f"{bad.argmax()}. Look at its weights and inputs with np.isfinite(...).all()."
        )
    return said


def _of_positions(logits: np.ndarray, labels: np.ndarray, reading: Reading) -> Said:
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(
            "The teacher must have at least two classes on the last axis. Received: logits of "
            f"shape {logits.shape}. A single sigmoid unit has no wrong classes to look at."
        )
    ids = class_ids(labels, logits).reshape(-1)
    logits = logits.reshape(-1, logits.shape[-1]).astype("float32")
    if reading.ignore_label is not None:
        counts = ids != reading.ignore_label
        logits, ids = logits[counts], ids[counts]
    if len(ids) and not (ids.min() >= 0 and ids.max() < logits.shape[-1]):
        raise ValueError(
            f"Labels must be from 0 to {logits.shape[-1] - 1} for {logits.shape[-1]} classes. "
            f"Received: labels from {ids.min()} to {ids.max()}. Pass ignore_label= for an id that "
            "marks what is not labelled."
        )
    return Said(logits, ids)


def _check_output(teacher: Teacher, output: str | None) -> None:
    names = list(teacher.output_names)
    if output is None and len(names) > 1:
        raise ValueError(
            f"The teacher has several outputs, {names}. Received: output=None. Expected: the name "
            "of the one to look at."
        )
    if output is not None and output not in names:
        raise ValueError(
            f"`output` is none of the teacher's. Received: output={output!r}. Expected: "
            f"{'None, for it has only ' if len(names) == 1 else 'one of '}{names}."
        )


def _labels_for(y: Any, names: list[str], output: str | None) -> Any:
    """The labels of the output that is looked at, where labels come for several or by name."""
    if isinstance(y, list | tuple) and len(y) == len(names) > 1:
        y = dict(zip(names, y, strict=True))
    if not isinstance(y, Mapping):
        return y
    name = names[0] if output is None else output
    if name not in y:
        example = f"y[{next(iter(y))!r}]" if y else "an array"
        raise ValueError(
            f"`data` has no labels for the teacher's output '{name}'. Received: labels by name, "
            f"for {list(y)}. Expected: the labels alone, such as {example}, or a dict with "
            f"'{name}'."
        )
    return y[name]


def _check_family(teacher: Teacher, output: str | None) -> None:
    families = getattr(getattr(teacher, "view", None), "families", {})
    names = [output] if output is not None else list(families)
    if any(families.get(name) == "sigmoid" for name in names):
        raise ValueError(
            "Only heads whose classes exclude each other have a correct class and wrong ones. "
            f"Received: a teacher that ends in sigmoid at {names}. Look at one with a softmax, or "
            "at keras_ats.check, which takes both."
        )


def _slice(arrays: Any, start: int, size: int) -> Any:
    return keras.tree.map_structure(lambda array: array[start : start + size], arrays)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise TypeError(
            "`data` must be batches of (x, y). Received: a batch of type "
            f"{type(batch).__name__}. Give the labels too; arrays of all samples as a tuple "
            "(x, y), for a list is taken for batches."
        )
    return batch[0], batch[1]


def _numpy(values: Any) -> np.ndarray:
    if values is None:
        raise ValueError("`data` must have labels. Received: labels=None. Expected: (x, y).")
    if keras.ops.is_tensor(values):
        return np.asarray(keras.ops.convert_to_numpy(values))
    return np.asarray(values)
