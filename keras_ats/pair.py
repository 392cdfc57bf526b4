"""A student and its teacher in one Keras model: what is predicted, tracked and saved."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import keras

from keras_ats import checks
from keras_ats._keras import all_layers
from keras_ats.logits_view import LogitsView, logits_view
from keras_ats.teachers.live import LiveTeacher
from keras_ats.types import Config, Nested


class TeacherStudentPair(keras.Model):
    """Predicts as the student does, and carries the teacher along without tracking it.

    The base of `Distiller`, which adds what is trained. Here is what Keras must be told about a
    model whose larger part is never trained: which variables belong to the step, and which to
    which file.

    Args:
        teacher: A trained, built `keras.Model`.
        student: The `keras.Model` to train.
        teacher_from_logits: As for `Distiller`.
        student_from_logits: As for `Distiller`.
        name: Name of the model.
        **kwargs: As for `keras.Model`.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        teacher_from_logits: bool | None = None,
        student_from_logits: bool | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        checks.teacher_and_student(teacher, student)
        # The student's own precision, so that Keras scales the loss for float16. Inputs are left
        # to the models: casting them here would take digits from a float32 teacher.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        self.student = student
        self.teacher_from_logits = teacher_from_logits
        self.student_from_logits = student_from_logits
        self._live_teacher = LiveTeacher(teacher, teacher_from_logits)
        self._student_view: LogitsView | None = None
        self._in_step = False
        self._teacher_hidden = False
        self.supports_jit = all(layer.supports_jit for layer in all_layers(teacher))
        if student.built or not isinstance(student, keras.Sequential):
            self._view_student()
            self.built = bool(student.built)

    @property
    def teacher(self) -> keras.Model:
        """The teacher, as it was given."""
        if self._teacher_hidden:
            raise AttributeError("The teacher is left out of weights files.")
        return self._live_teacher.model

    def build(self, input_shape: Any) -> None:
        """Builds a Sequential student that waited for its input shape; called by Keras."""
        if self._student_view is None:
            self.student.build(input_shape)
            self._view_student()

    def call(self, inputs: Nested, training: bool | None = None) -> Nested:
        """Returns the student's predictions."""
        outputs = self._view.model(inputs, training=training)
        # Within a step Keras hands this on to `compute_loss` and `compute_metrics`, which need
        # the logits: predictions can be had from them, but not the other way round.
        return outputs if self._in_step else self._view.to_outputs(outputs)

    def train_step(self, *args: Any) -> Any:
        """Runs one training step; called by Keras, with the state first on JAX."""
        with self._switched_on("_in_step"):
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        """Runs one evaluation step; called by Keras, with the state first on JAX."""
        with self._switched_on("_in_step"):
            return super().test_step(*args)

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """All state that a step reads and the optimizer leaves alone, the teacher's included.

        That makes the teacher an argument of JAX's compiled step. It would be a constant baked
        into it otherwise, copied at every compilation.
        """
        own = super().non_trainable_variables
        known = {id(variable) for variable in self.variables}
        return [*own, *(v for v in self._live_teacher.variables if id(v) not in known)]

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves student, loss and optimizer. The teacher has a file of its own and is left out."""
        with self._switched_on("_teacher_hidden"):
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads what `save_weights` saved."""
        with self._switched_on("_teacher_hidden"):
            super().load_weights(*args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Writes the pair's own variables and the student's random seeds; called by Keras."""
        super().save_own_variables(store)
        # Keras saves no seeds: a run with dropout would go on with other random numbers.
        for index, seed in enumerate(self._student_seeds):
            store[f"seed_{index}"] = seed

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote; called by Keras."""
        seeds = self._student_seeds
        own = {name: store[name] for name in list(store.keys()) if not name.startswith("seed_")}
        super().load_own_variables(own)
        for index, seed in enumerate(seeds):
            seed.assign(store[f"seed_{index}"])

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher_from_logits": self.teacher_from_logits,
            "student_from_logits": self.student_from_logits,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """Builds the model that `get_config` described."""
        models = {
            role: keras.saving.deserialize_keras_object(config[role], custom_objects=custom_objects)
            for role in ("teacher", "student")
        }
        return cls(**{**config, **models})

    @property
    def _view(self) -> LogitsView:
        if self._student_view is None:
            raise ValueError(
                f"The student '{self.student.name}' is not built. Give its first layer an input "
                "shape (keras.Input), or call the distiller on a batch."
            )
        return self._student_view

    @property
    def _student_seeds(self) -> list[keras.Variable]:
        weights = {id(variable) for variable in self.student.weights}
        return [variable for variable in self.student.variables if id(variable) not in weights]

    def _view_student(self) -> None:
        view = logits_view(self.student, self.student_from_logits, "student")
        checks.same_class_counts(view.output_shapes, self._live_teacher.view.output_shapes)
        self._student_view = view

    @contextlib.contextmanager
    def _switched_on(self, flag: str) -> Iterator[None]:
        before = getattr(self, flag)
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, before)
