"""The doctor: what is wrong with a pair of models and its data, before anything is trained."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ats import checks
from keras_ats.diagnostics.case import Case, Spoken, accuracy, rows_of, softmax
from keras_ats.diagnostics.examiners import EXAMINERS, finite
from keras_ats.diagnostics.finding import CheckUp, Finding
from keras_ats.diagnostics.gradients import gradient
from keras_ats.diagnostics.logits import check_from_logits, class_ids, compiled
from keras_ats.losses.asymmetric_temperature_kd import AsymmetricTemperatureKD
from keras_ats.losses.bernoulli_kd import BernoulliKD
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.lookup import get
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson, Outputs
from keras_ats.teachers.live import LiveTeacher, TeacherInputs, as_teacher
from keras_ats.teachers.teacher import Teacher
from keras_ats.temperatures.temperature import Temperature, temperatures_of
from keras_ats.types import Nested
from keras_ats.views.inputs import named_inputs
from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.read import FromLogits
from keras_ats.views.view import View

_MOST = 1024  # samples looked at


def check(
    teacher: Any,
    student: keras.Model,
    x: Nested,
    y: Any,
    kd_loss: Any = None,
    *,
    kd_weight: float = 0.5,
    student_weight: float | None = None,
    teacher_from_logits: FromLogits = None,
    student_from_logits: FromLogits = None,
    teacher_inputs: TeacherInputs = None,
    verbose: bool = True,
) -> CheckUp:
    """Looks for what is most likely wrong with teacher, student, loss and data, in seconds.

    Nothing is trained and nothing is changed. All that is found is told, each with what was seen,
    what it means and what to do: softmax of a softmax, log-probabilities, logits taken for
    probabilities; a teacher that is untrained, in training mode, given other inputs than it knows,
    that counts its classes in another order, or is no better than the student; labels the other way
    round; soft targets that are all but uniform or one-hot; a loss that does not move, or drowns
    the labels or is drowned by them.

    Args:
        teacher: As for `Distiller`.
        student: As for `Distiller`, trained or not.
        x: Inputs of a few hundred samples, of all classes; at most 1,024 are looked at, evenly.
        y: Their labels: ids or rows; for sigmoid units zeros and ones.
        kd_loss: As for `compile`: one loss on logits. None (default) is
            `AsymmetricTemperatureKD()`, for sigmoid heads `BernoulliKD()`.
        kd_weight: As for `compile`. Defaults to 0.5.
        student_weight: As for `compile`. Defaults to None.
        teacher_from_logits: As for `Distiller`. Defaults to None.
        student_from_logits: As for `Distiller`. Defaults to None.
        teacher_inputs: As for `Distiller`. Defaults to None.
        verbose: Whether to print the findings. Defaults to True.

    Returns:
        A `CheckUp` with a list of `findings`, which is empty, and true, if nothing was found.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If models have several outputs, which are to be checked one by one, or labels
            do not fit.

    Example:

    ```python
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    x, y = np.random.rand(60, 8), np.random.randint(0, 3, 60)
    keras_ats.check(teacher, student, x, y)  # This teacher is untrained.
    ```
    """
    as_keras_model(student, "`student`", "check(teacher, student, x, y)")
    verbose = checks.as_boolean(verbose, "verbose")
    kd_weight = checks.non_negative_number(kd_weight, "kd_weight")
    if student_weight is not None:
        student_weight = checks.non_negative_number(student_weight, "student_weight")
    weights = kd_weight, max(0.0, 1 - kd_weight) if student_weight is None else student_weight
    given = kd_loss if isinstance(kd_loss, list | tuple) else get(kd_loss)
    if given is not None and not isinstance(given, KDLoss):
        raise TypeError(
            "`kd_loss` must be one loss on logits, or None. Received: "
            f"kd_loss={kd_loss!r} of type {type(given).__name__}."
        )
    said = {
        role: check_from_logits(value, f"{role}_from_logits")
        for role, value in (("teacher", teacher_from_logits), ("student", student_from_logits))
    }
    x, y = _first(x, y)
    size = len(y)
    try:
        if teacher is student:
            raise ValueError("Teacher and student are the same model, which would teach itself.")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError(
                f"Labels must be finite. Received: {(~np.isfinite(y)).sum()} of {y.size} that are "
                "NaN or infinite."
            )
        models = (
            as_teacher(teacher, said["teacher"], teacher_inputs),
            LiveTeacher(student, said["student"]),
        )
        View(student, said["student"], "student")
        case = _Visit(models, x, y, given, weights).case()
    except ValueError as error:
        # What Distiller would refuse too, in its own words.
        message = str(error)
        findings = [Finding("cannot be read", message, "Training would not start.", "See there.")]
    else:
        findings = list(finite(case))
        if not findings:
            findings = [finding for examiner in EXAMINERS for finding in examiner(case)]
    result = CheckUp(findings, size)
    if verbose:
        result.show()
    return result


class _Visit:
    """One check-up: runs the models and takes notes.

    Args:
        models: Teacher and student.
        x: Inputs.
        y: Labels.
        kd_loss: The loss, or None for the one that fits the heads.
        weights: Of distillation and of labels.
    """

    def __init__(
        self,
        models: tuple[Teacher, LiveTeacher],
        x: Nested,
        y: np.ndarray,
        kd_loss: KDLoss | None,
        weights: tuple[float, float],
    ) -> None:
        self.teacher, self.student = models
        for one in models:
            if len(one.output_names) > 1:
                raise ValueError(
                    f"A model has several outputs, {list(one.output_names)}. Check them one by "
                    "one, as models of one output each."
                )
        self.is_sigmoid = "sigmoid" in {_family(one) for one in models} or (
            isinstance(kd_loss, KDLoss) and kd_loss.family == "sigmoid"
        )
        if kd_loss is None:
            kd_loss = BernoulliKD() if self.is_sigmoid else AsymmetricTemperatureKD()
        self.kd_loss, self.weights = kd_loss, weights
        # Before the loss says of what kind probabilities are.
        self.endings = {id(one): _ending(one) for one in models}
        for one in models:
            one.prepare(kd_loss.needs)
        self.x, self.y = x, y
        self.say = compiled(self.teacher)
        self.given = self.teacher.split(x)[1]
        self.for_student = self.teacher.split(x)[0]

    def case(self) -> Case:
        """Returns all that is known."""
        before = _sums(self.teacher)
        logits = _numpy(self.say(self.given))
        of_student = _numpy(compiled(self.student)(self.for_student))
        if logits.shape != of_student.shape:
            raise ValueError(
                "Student and teacher must have the same classes and positions. Received: student "
                f"logits of shape {of_student.shape} and teacher logits of shape {logits.shape}."
            )
        y = self.y.reshape(logits.shape) if self.is_sigmoid else self.y
        ids = (y > 0.5).astype("int64") if self.is_sigmoid else class_ids(y, logits)
        ids = ids.reshape(-1)
        rows = [rows_of(one, self.is_sigmoid) for one in (logits, of_student)]
        keep = (ids >= 0) & (ids < rows[0].shape[-1])
        if not keep.any():
            raise ValueError(
                f"No label is within 0 and {rows[0].shape[-1] - 1}. Received: labels from "
                f"{ids.min()} to {ids.max()}."
            )
        outside = ids[~keep]
        ids, self.kept = ids[keep], keep
        teacher, student = (
            Spoken(role, said, one[keep], self._raw(model, given))
            for role, said, one, model, given in (
                ("teacher", logits, rows[0], self.teacher, self.given),
                ("student", of_student, rows[1], self.student, self.for_student),
            )
        )
        changed = _sums(self.teacher)
        case = Case(
            teacher,
            student,
            ids,
            self.is_sigmoid,
            self._in_other_company(logits),
            weights=self.weights,
            has_changed=tuple(name for name in before if before[name] != changed[name]),
            outside=outside,
        )
        if np.isfinite(logits).all() and np.isfinite(of_student).all():
            case.other_inputs = self._with_other_inputs(case)
            # Elsewhere `ignore_class` leaves out what is no class.
            left = keep.reshape(y.shape) if len(outside) else None
            self._examine_loss(case, y if left is None else np.where(left, y, 0), left)
        return case

    def _in_other_company(self, logits: np.ndarray) -> np.ndarray:
        """What is said of each sample where the other half of the batch is not there."""
        size = len(logits)
        half = size // 2
        if half == 0:
            return logits
        # Batches of the same size: JAX would compile anew for another.
        first, second = np.arange(size) % half, half + np.arange(size) % (size - half)
        parts = [_numpy(self.say(_taken(self.given, order))) for order in (first, second)]
        return np.concatenate([parts[0][:half], parts[1][: size - half]])

    def _with_other_inputs(self, case: Case) -> dict[str, float]:
        """The teacher's accuracy on inputs of other scales, where its own is poor."""
        x = self.given
        is_array = hasattr(x, "dtype") and np.issubdtype(np.asarray(x).dtype, np.floating)
        if accuracy(case.teacher.rows, case.ids) > 0.9 or not is_array:
            return {}
        x = np.asarray(x, "float32")
        spread = x.std(axis=tuple(range(x.ndim - 1))) + 1e-6
        others = {
            "divided by 255": x / 255,
            "multiplied by 255": x * 255,
            "divided by 127.5, less 1": x / 127.5 - 1,
            "times 2, less 1": 2 * x - 1,
            "standardised": (x - x.mean(axis=tuple(range(x.ndim - 1)))) / spread,
        }
        return {
            name: accuracy(rows_of(_numpy(self.say(other)), self.is_sigmoid)[self.kept], case.ids)
            for name, other in others.items()
        }

    def _examine_loss(self, case: Case, y: np.ndarray, mask: np.ndarray | None) -> None:
        loss, teacher = self.kd_loss, case.teacher.logits.astype("float32")
        labels = y.astype("float32") if self.is_sigmoid else y

        def value(student: Any) -> Any:
            return loss(student, teacher, labels=labels, mask=mask)

        start = case.student.logits.astype("float32")
        # Another student, that knows nothing yet.
        moved = np.random.default_rng(0).normal(size=start.shape).astype("float32")
        case.kd_gradients = tuple(gradient(value, one) for one in (start, moved))
        case.label_gradients = tuple(self._label_gradient(case.ids, one) for one in (start, moved))
        if not self.is_sigmoid:
            case.targets = _entropy_of_targets(loss, case, labels)

    def _label_gradient(self, ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The gradient of the labels' cross-entropy."""
        rows = rows_of(logits.astype("float64"), self.is_sigmoid)
        rows = rows[self.kept]
        slope = (softmax(rows) - np.eye(rows.shape[-1])[ids]) / len(rows)
        return slope[:, 1:] if self.is_sigmoid else slope

    def _raw(self, model: Teacher, given: Nested) -> np.ndarray | None:
        """What a model that is said to return probabilities returns."""
        if self.endings[id(model)] != "probabilities" or not isinstance(model, LiveTeacher):
            return None
        inputs = model.inputs(given) if callable(model.inputs) else given
        said = model.model(named_inputs(model.model, inputs, "teacher"), training=False)
        return _numpy(keras.tree.flatten(said)[0])


def _entropy_of_targets(loss: KDLoss, case: Case, labels: np.ndarray) -> float | None:
    rule = getattr(loss, "temperature", None)
    classes = case.teacher.logits.shape[-1]
    logits = ops.convert_to_tensor(case.teacher.logits.astype("float32"))
    student = ops.convert_to_tensor(case.student.logits.astype("float32"))
    if isinstance(rule, Temperature):
        temperature = temperatures_of(rule, Lesson(Outputs(student), Outputs(logits), labels))
    elif isinstance(rule, keras.Variable):
        temperature = ops.convert_to_tensor(rule)
    else:
        return None
    log_targets = _numpy(temperature_log_softmax(logits, temperature))
    entropy = -(np.exp(log_targets) * log_targets).sum(-1)
    return float(entropy.mean() / math.log(classes))


def _first(x: Nested, y: Any) -> tuple[Nested, np.ndarray]:
    leaves = keras.tree.flatten(x)
    if not leaves or not all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves):
        raise TypeError(
            f"`x` must be an array of inputs, or a dict or list of them. Received: x={x!r} of type "
            f"{type(x).__name__}."
        )
    if not hasattr(y, "shape") or not len(y.shape):
        raise TypeError(
            f"`y` must be an array of labels. Received: y={y!r} of type {type(y).__name__}."
        )
    if any(leaf.shape[0] != y.shape[0] for leaf in leaves) or y.shape[0] < 2:
        raise ValueError(
            "`x` and `y` must have as many samples, at least two. Received: "
            f"{[leaf.shape[0] for leaf in leaves]} inputs and {y.shape[0]} labels."
        )
    y = _numpy(y) if ops.is_tensor(y) else np.asarray(y)
    # Evenly, for data sets come sorted by class.
    step = -(-len(y) // _MOST)
    return keras.tree.map_structure(lambda leaf: leaf[::step], x), y[::step]


def _taken(x: Nested, order: np.ndarray) -> Nested:
    return keras.tree.map_structure(lambda leaf: _raw_numpy(leaf)[order], x)


def _raw_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else leaf)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor)).astype("float64")


def _family(model: Teacher) -> str | None:
    view = getattr(model, "view", None)
    return None if view is None else view.families[view.output_names[0]]


def _ending(model: Teacher) -> str:
    view = getattr(model, "view", None)
    return "logits" if view is None else str(view.endings[view.output_names[0]])


def _sums(teacher: Teacher) -> dict[str, float]:
    return {one.path: float(_numpy(one.value).sum()) for one in teacher.variables}
