"""Reads any classifier at its logits: finds the last softmax and looks at the tensor before it.

ATS is not invariant to a shift of the teacher's logits, so probabilities will not do, and most
models that people have end in softmax. The view shares all weights with the model, which stays as
it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_ats.ops.probabilities import centered_log_probabilities
from keras_ats.types import Nested, Tensor
from keras_ats.views.endings import Ending, UnknownEndingError, find_ending
from keras_ats.views.graph import graph_inputs, graph_outputs, has_graph


@dataclass(frozen=True)
class LogitsView:
    """One model, read at its logits.

    Attributes:
        model: What is run; its weights are those of the viewed model.
        to_logits: Turns what `model` returns into logits.
        to_outputs: Turns what `model` returns into what the viewed model returns.
        from_probabilities: Whether `model` gives probabilities, from which logits are recovered.
    """

    model: keras.Model
    to_logits: Callable[[Nested], Nested]
    to_outputs: Callable[[Nested], Nested]
    from_probabilities: bool = False


def logits_view(model: keras.Model, from_logits: bool | None, role: str) -> LogitsView:
    """Finds the logits of `model`.

    Args:
        model: A built Keras model. Sequential and Functional models, also nested, are inspected.
        from_logits: True if the model returns logits, False if it returns probabilities, None to
            find out.
        role: `"teacher"` or `"student"`, for messages.

    Returns:
        The view.

    Raises:
        ValueError: If the model's ending is not known to be logits or softmax.
    """
    # A subclassed model may say so itself.
    if from_logits is None and getattr(model, "returns_logits", None) is not None:
        from_logits = model.returns_logits
    if from_logits is True:
        return LogitsView(model, _same, _same)
    if not has_graph(model):
        if from_logits is None:
            raise ValueError(
                f"The {role} '{model.name}' is a subclassed model, so whether it returns logits "
                f"cannot be read off its graph. Pass {role}_from_logits=True if it returns logits "
                f"(best), or {role}_from_logits=False if it ends in softmax; or give its class an "
                "attribute `returns_logits`."
            )
        return _from_probabilities(model)
    return _read_off_graph(model, from_logits, role)


def _read_off_graph(model: keras.Model, from_logits: bool | None, role: str) -> LogitsView:
    outputs = graph_outputs(model)
    try:
        endings = keras.tree.map_structure(find_ending, outputs)
    except UnknownEndingError as error:
        if from_logits is False:
            return _from_probabilities(model)
        raise ValueError(
            f"The {role} '{model.name}' ends in {error}. Expected: a linear layer (logits) or a "
            f"softmax over the last axis. Pass {role}_from_logits=True if these are logits, "
            f"{role}_from_logits=False if they are probabilities, or give the model an ending of "
            "that kind."
        ) from None
    if any(ending.activation is not None for ending in keras.tree.flatten(endings)):
        return _at_endings(model, endings, outputs)
    if from_logits is False:
        raise ValueError(
            f"The {role} '{model.name}' ends in a linear layer, which gives logits. Received: "
            f"{role}_from_logits=False, which says probabilities. Leave it out."
        )
    return LogitsView(model, _same, _same)


def _at_endings(model: keras.Model, endings: Any, outputs: Nested) -> LogitsView:
    def activate(ending: Ending, output: keras.KerasTensor, logits: Tensor) -> Tensor:
        if ending.activation is None:
            return logits
        probabilities = ending.activation(logits)
        if keras.backend.standardize_dtype(probabilities.dtype) == output.dtype:
            return probabilities
        # A linear layer of another precision may follow the softmax. Cast by a layer, not by
        # `ops.cast`, which would lose the Keras mask.
        return keras.layers.Activation("linear", dtype=output.dtype)(probabilities)

    return LogitsView(
        keras.Model(
            graph_inputs(model),
            keras.tree.map_structure(lambda ending: ending.logits, endings),
            name=f"{model.name}_logits",
        ),
        _same,
        lambda logits: keras.tree.map_structure(activate, endings, outputs, logits),
    )


def _from_probabilities(model: keras.Model) -> LogitsView:
    return LogitsView(
        model,
        lambda outputs: keras.tree.map_structure(centered_log_probabilities, outputs),
        _same,
        from_probabilities=True,
    )


def _same(outputs: Nested) -> Nested:
    return outputs
