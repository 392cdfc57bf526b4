"""A teacher that is run beside the student."""

import contextlib

import keras

from keras_ats.logits_view import logits_view
from keras_ats.types import Nested


class LiveTeacher:
    """Runs a model as a teacher: at inference, without gradients, leaving no trace in it.

    Not a layer on purpose: a tracked teacher would put its regularisers into the student's loss
    and its weights among the trainable ones unless its `trainable` flags were changed.

    Args:
        model: A built Keras model.
        from_logits: As for `Distiller(teacher_from_logits=...)`.
    """

    def __init__(self, model: keras.Model, from_logits: bool | None = None) -> None:
        if not model.built:
            raise ValueError(
                f"The teacher '{model.name}' is not built, so it has no weights to teach with. "
                "Load its trained weights, or call it on a batch, before giving it to Distiller."
            )
        self.model = model
        self.view = logits_view(model, from_logits, "teacher")

    @property
    def variables(self) -> list[keras.Variable]:
        """All state that the teacher reads, random seeds included."""
        variables: list[keras.Variable] = self.model.variables
        return variables

    def __call__(self, inputs: Nested) -> Nested:
        """Returns the teacher's logits for a batch of inputs, without gradient."""
        # Within this scope nothing is written to a variable: a teacher that insists on updating
        # BatchNorm statistics or drawing random numbers at inference does so without effect.
        state = [(variable, variable.value) for variable in self.variables]
        with keras.StatelessScope(state_mapping=state), _without_gradients():
            outputs = self.view.model(inputs, training=False)
        return keras.tree.map_structure(keras.ops.stop_gradient, self.view.to_logits(outputs))


def _without_gradients() -> contextlib.AbstractContextManager[None]:
    """On torch, keeps the forward pass from being recorded; elsewhere `stop_gradient` is enough."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
