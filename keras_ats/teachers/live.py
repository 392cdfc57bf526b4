"""A teacher that is run beside the student."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_ats._keras import all_layers
from keras_ats.record import Needs, Outputs, Shapes
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Nested
from keras_ats.views.inputs import named_inputs
from keras_ats.views.keras_model import as_keras_model, origin_of
from keras_ats.views.read import FromLogits
from keras_ats.views.view import View

TeacherInputs: TypeAlias = str | Callable[[Nested], Nested] | None
"""What the teacher is shown of a batch: a key of it, a function of it, or the same."""


class LiveTeacher(Teacher):
    """Runs a model as a teacher: at inference, without gradients, leaving no trace in it.

    Not a layer on purpose: a tracked teacher would put its regularisers into the student's loss
    and its weights among the trainable ones unless its `trainable` flags were changed.

    Args:
        model: A built Keras model.
        from_logits: As for `Distiller(teacher_from_logits=...)`.
        inputs: As for `Distiller(teacher_inputs=...)`.

    Raises:
        ValueError: If the model is not built, or its ending is not known.
    """

    def __init__(
        self,
        model: keras.Model,
        from_logits: FromLogits = None,
        inputs: TeacherInputs = None,
    ) -> None:
        as_keras_model(model, "`model`", "a trained, built model")
        if not model.built:
            raise ValueError(
                f"The teacher '{model.name}' is not built, so it has no weights to teach with. "
                "Load its trained weights, or call it on a batch, before giving it to Distiller."
            )
        self.model = model
        self.inputs = as_inputs(inputs)
        self.view = self._bare_view = View(model, from_logits, "teacher")
        self.output_names = self.view.output_names
        self.supports_jit = all(layer.supports_jit for layer in all_layers(model))

    @property
    def variables(self) -> list[keras.Variable]:  # type: ignore[override]
        """All state that the teacher reads, random seeds included."""
        variables: list[keras.Variable] = self.model.variables
        return variables

    @property
    def shapes(self) -> Shapes:  # type: ignore[override]
        """Shapes of logits and of the inner layers that are read."""
        return self.view.shapes

    def prepare(self, needs: Needs) -> None:
        """Reads what is needed, from now on, and no longer what was needed before."""
        self.view = self._bare_view.prepared(needs.teacher_features, needs.heads)

    def split(self, x: Nested) -> tuple[Nested, Nested]:
        """Returns the student's inputs and the teacher's: the same, or the part that is its own."""
        if self.inputs is None or callable(self.inputs):
            return x, x
        if not isinstance(x, dict) or self.inputs not in x:
            # `evaluate` and `predict` may do without the teacher's part.
            return x, None
        rest = {name: value for name, value in x.items() if name != self.inputs}
        return next(iter(rest.values())) if len(rest) == 1 else rest, x[self.inputs]

    def __call__(self, given: Nested) -> Outputs:
        """Returns what the teacher says of a batch of inputs, without gradient."""
        if given is None:
            raise ValueError(
                f"The batch has no inputs for the teacher. Expected: a dict with the key "
                f"'{self.inputs}', as teacher_inputs says."
            )
        # Within this scope nothing is written to a variable: a teacher that insists on updating
        # BatchNorm statistics or drawing random numbers at inference does so without effect.
        state = [(variable, variable.value) for variable in self.variables]
        with keras.StatelessScope(state_mapping=state), _without_gradients():
            inputs = self.inputs(given) if callable(self.inputs) else given
            outputs = self.view(named_inputs(self.model, inputs, "teacher"), training=False)
        return Outputs(
            keras.tree.map_structure(ops.stop_gradient, outputs.logits),
            keras.tree.map_structure(ops.stop_gradient, outputs.features),
            mask=outputs.mask,
            feature_masks=outputs.feature_masks,
        )


def as_teacher(
    teacher: Any,
    from_logits: FromLogits,
    inputs: TeacherInputs,
    expected: str = "Distiller(teacher, student)",
) -> Teacher:
    """Returns a model as a `LiveTeacher`; any other `Teacher` as it is.

    Args:
        teacher: What was given.
        from_logits: As for `LiveTeacher`.
        inputs: Likewise.
        expected: What should have been written, for the message.
    """
    if isinstance(teacher, keras.Model):
        return LiveTeacher(teacher, from_logits, inputs)
    if isinstance(teacher, Teacher) and not isinstance(teacher, type):
        return teacher
    raise TypeError(
        f"`teacher` must be a keras.Model or a keras_ats.teachers.Teacher. Received: {teacher!r} "
        f"of type {type(teacher).__name__}.{origin_of(teacher)} Expected: {expected}."
    )


def as_inputs(inputs: Any) -> TeacherInputs:
    """Returns `inputs`, or raises if they cannot say what a teacher is shown."""
    if inputs is None or callable(inputs) or (isinstance(inputs, str) and inputs):
        return inputs
    raise TypeError(
        "`teacher_inputs` must be a function of a batch of inputs, a key of inputs that are a "
        f"dict, or None. Received: teacher_inputs={inputs!r} of type {type(inputs).__name__}."
    )


def _without_gradients() -> contextlib.AbstractContextManager[None]:
    """On torch, keeps the forward pass from being recorded; elsewhere `stop_gradient` is enough."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
