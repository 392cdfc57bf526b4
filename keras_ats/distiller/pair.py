"""A teacher and its student, read for the record."""

from typing import Any

import keras

from keras_ats.ops.labels import shapes_fit
from keras_ats.record import Lesson, Needs, Outputs
from keras_ats.teachers.cache.cached_teacher import CachedTeacher
from keras_ats.teachers.live import LiveTeacher, TeacherInputs, as_teacher
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Nested
from keras_ats.views.graph import has_graph
from keras_ats.views.inputs import named_inputs
from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.read import FromLogits
from keras_ats.views.view import View


class Pair:
    """Who teaches whom: what each is shown, what each says, and whose variables are whose.

    Args:
        teacher: A trained, built `keras.Model`, or a `Teacher`.
        student: The `keras.Model` to train.
        teacher_from_logits: As for `Distiller`.
        student_from_logits: As for `Distiller`.
        teacher_inputs: As for `Distiller`.

    Raises:
        TypeError: If these are no models.
        ValueError: If they are one model, or an ending is not known.
    """

    def __init__(
        self,
        teacher: keras.Model | Teacher,
        student: keras.Model,
        teacher_from_logits: FromLogits,
        student_from_logits: FromLogits,
        teacher_inputs: TeacherInputs = None,
    ) -> None:
        _check_student(teacher, student)
        self.student = student
        self.teacher: Teacher = as_teacher(teacher, teacher_from_logits, teacher_inputs)
        self.student_from_logits = student_from_logits
        self._ids_key: str | None = None
        # As it is, and with what losses need.
        self._bare_view: View | None = None
        self._view: View | None = None
        if student.built or not isinstance(student, keras.Sequential):
            self.view_student()

    @property
    def given_teacher(self) -> Any:
        """The teacher as it was given: a model, or what stands for one."""
        return self.teacher.model if isinstance(self.teacher, LiveTeacher) else self.teacher

    @property
    def view(self) -> View:
        """The student's view, which only a student whose shapes are known has."""
        if self._view is None:
            raise ValueError(
                f"The student '{self.student.name}' is not built. Give its first layer an input "
                "shape (keras.Input), or call the distiller on a batch."
            )
        return self._view

    @property
    def is_viewed(self) -> bool:
        """Whether the student can be read yet."""
        return self._view is not None

    def view_student(self) -> None:
        """Finds the student's logits, once it has its shapes."""
        self.check_variables()
        view = View(self.student, self.student_from_logits, "student")
        if isinstance(self.teacher, LiveTeacher) and self.teacher.inputs is None:
            _check_inputs(self.teacher.model, self.student)
        if len(view.output_names) == len(self.teacher.output_names) == 1:
            check_class_counts(view.shapes.logits, self.teacher.shapes.logits)
        self._view = self._bare_view = view

    def check_variables(self) -> None:
        """Raises if a training step of the student would change the teacher."""
        of_teacher = {id(variable) for variable in self.teacher.variables}
        shared = [one for one in self.student.trainable_variables if id(one) in of_teacher]
        if shared:
            raise ValueError(
                "Teacher and student share variables that training would change, in the teacher "
                f"too. Received: {[variable.path for variable in shared]}. Give the student layers "
                "of its own (keras.models.clone_model, then set_weights), or freeze the shared "
                "ones: layer.trainable = False."
            )

    def build_student(self, input_shape: Any) -> None:
        """Builds a Sequential student that waited for its input shape."""
        student_shape, _ = self.teacher.split(input_shape)
        self.student.build(student_shape)
        self.view_student()

    def prepare(self, needs: Needs) -> None:
        """Reads what losses need, from now on, and no longer what others needed."""
        bare = self._bare_view or self.view
        self.teacher.prepare(needs)
        self._view = bare.prepared(needs.student_features, needs.heads)
        self._ids_key = needs.ids

    def student_outputs(self, x: Nested, training: bool | None) -> Outputs:
        """Runs the student on its part of a batch."""
        inputs, _ = self.teacher.split(self._without_ids(x)[0])
        return self.view(named_inputs(self.student, inputs, "student"), training=training)

    def kept_classes(self, x: Nested) -> dict[str, Any]:
        """Ids of the classes that a cache with `top_k` kept, by the student's outputs."""
        if not isinstance(self.teacher, CachedTeacher):
            return {}
        _, rows = self.teacher.split(x)
        kept = {name: row["ids"] for name, row in (rows or {}).items() if "ids" in row}
        names = self.view.output_names
        return dict(zip(names, kept.values(), strict=False)) if len(names) == 1 else kept

    def lesson(
        self,
        x: Nested,
        y: Nested,
        student: Outputs,
        sample_weight: Nested,
        training: bool = True,
    ) -> Lesson:
        """Runs the teacher on its part of a batch, and puts everything into the record."""
        x, ids = self._without_ids(x)
        _, given = self.teacher.split(x)
        by_name = self.view.by_name
        return Lesson(
            student,
            self.teacher(given),
            by_name(y),
            by_name(sample_weight),
            x,
            ids=ids,
            training=training,
        )

    @property
    def student_seeds(self) -> list[keras.Variable]:
        """The student's random states, which Keras leaves out of files."""
        weights = {id(variable) for variable in self.student.weights}
        return [variable for variable in self.student.variables if id(variable) not in weights]

    def _without_ids(self, x: Nested) -> tuple[Nested, Any]:
        """What is left of a batch for the models, and the ids of its samples, where they come."""
        if self._ids_key is None or not isinstance(x, dict) or self._ids_key not in x:
            return x, None
        rest = {name: value for name, value in x.items() if name != self._ids_key}
        return next(iter(rest.values())) if len(rest) == 1 else rest, x[self._ids_key]


def check_class_counts(student: Any, teacher: Any) -> None:
    """Raises if shapes of logits show different numbers of classes; unknown ones pass."""
    if not isinstance(student, tuple) or not isinstance(teacher, tuple):
        return
    counts = student[-1], teacher[-1]
    if None not in counts and counts[0] != counts[1]:
        raise ValueError(
            "Student and teacher must have the same classes. Received: a student with "
            f"{counts[0]} classes and a teacher with {counts[1]}. Rebuild the student's last "
            "layer for the teacher's classes, or slice the wider model's output."
        )


def _check_inputs(teacher: keras.Model, student: keras.Model) -> None:
    if not (has_graph(teacher) and has_graph(student)):
        return
    of_teacher, of_student = teacher.inputs, student.inputs
    if len(of_teacher) != 1 or len(of_student) != 1:
        return
    # Inputs that the user has named may be different entries of a dict.
    names = [inputs[0].name for inputs in (of_teacher, of_student)]
    if names[0] != names[1] and not any(
        name.startswith(("input_layer", "keras_tensor")) for name in names
    ):
        return
    shapes = [tuple(inputs[0].shape) for inputs in (of_student, of_teacher)]
    if not shapes_fit(*shapes):
        raise ValueError(
            f"Student and teacher take different inputs. Received: a student for {shapes[0]} and a "
            f"teacher for {shapes[1]}. Pass teacher_inputs=, a function that makes the teacher's "
            "inputs of the student's, or the key of them in the data."
        )


def _check_student(teacher: Any, student: Any) -> None:
    as_keras_model(student, "`student`", "Distiller(teacher, student)")
    if teacher is student:
        raise ValueError(
            "Teacher and student are the same model, which would teach itself what it knows. "
            f"Received: '{teacher.name}' twice. For self-distillation pass a trained copy as the "
            "teacher: keras.models.clone_model, then set_weights."
        )
