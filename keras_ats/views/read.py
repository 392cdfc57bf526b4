"""Decides how each output of a model is read."""

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import keras

from keras_ats.checks import as_boolean
from keras_ats.types import Nested
from keras_ats.views.endings import UnknownEndingError, find_logits
from keras_ats.views.graph import (
    describe_without_graph,
    has_graph,
    output_names,
    outputs_by_name,
)
from keras_ats.views.readings import Probabilities, Reading, Unread, before_activation

FromLogits: TypeAlias = bool | Mapping[str, bool | None] | None
"""Whether a model returns logits: for all outputs, or by their names; None to find out."""


def read_outputs(model: keras.Model, from_logits: FromLogits, role: str) -> dict[str, Reading]:
    """Returns how each output is read, by name.

    Args:
        model: A built Keras model. Sequential and Functional models, also nested, are inspected.
        from_logits: True where it returns logits, False where probabilities, None to find out.
        role: `"teacher"`, `"student"` or `"model"`, for messages.

    Raises:
        TypeError: If `from_logits` is none of these.
        ValueError: If it names outputs that there are not.
    """
    if from_logits is None:
        # A model may say so itself.
        from_logits = getattr(model, "returns_logits", None)
    names = _names(model, from_logits, role)
    outputs = outputs_by_name(model, names) if has_graph(model) else dict.fromkeys(names)
    readings = {}
    for name in names:
        given = from_logits.get(name) if isinstance(from_logits, Mapping) else from_logits
        said = None if given is None else as_boolean(given, argument_name(role))
        output = _Output(model, role, name, len(names) == 1)
        if said is True and outputs[name] is not None:
            output.warn_if_not_logits(outputs[name])
        readings[name] = Reading() if said is True else output.reading(outputs[name], said)
    return readings


def argument_name(role: str) -> str:
    """The argument by which a user says what a model returns."""
    return "from_logits" if role == "model" else f"{role}_from_logits"


def _names(model: keras.Model, from_logits: FromLogits, role: str) -> list[str]:
    names = output_names(model)
    if not isinstance(from_logits, Mapping) or set(from_logits) <= set(names):
        return names
    if has_graph(model):
        raise ValueError(
            f"`{argument_name(role)}` names outputs that the {role} '{model.name}' does not have. "
            f"Received: {list(from_logits)}. Expected: some of {names}."
        )
    # Nobody else knows what code of the user's returns.
    return list(from_logits)


@dataclass(frozen=True)
class _Output:
    """One output of a model, and how to speak of it."""

    model: keras.Model
    role: str
    name: str
    is_only: bool

    def reading(self, output: Nested, says_logits: bool | None) -> Reading:
        """Decides how the output is read, where it is not said to be logits."""
        says_probabilities = says_logits is False
        if not has_graph(self.model):
            return Probabilities() if says_probabilities else Unread(problem=self._without_graph())
        try:
            if keras.tree.is_nested(output):
                raise UnknownEndingError(f"a {type(output).__name__} of tensors")
            found = find_logits(output)
        except UnknownEndingError as error:
            return Probabilities() if says_probabilities else Unread(problem=self._unknown(error))
        if found.ending != "logits":
            return before_activation(found, output)
        return Unread(problem=self._doubted()) if says_probabilities else Reading()

    def warn_if_not_logits(self, output: Nested) -> None:
        """Warns where the graph contradicts the user who says that these are logits."""
        if keras.tree.is_nested(output):
            return
        with contextlib.suppress(UnknownEndingError):
            ending = find_logits(output).ending
            if ending in ("softmax", "sigmoid"):
                warnings.warn(
                    f"The {self.role} '{self.model.name}' ends in {ending}{self._place}, so what "
                    f"it returns are no logits. Received: {self._argument(True)}. Leave it out: "
                    "the logits before the activation are read by themselves.",
                    stacklevel=2,
                )

    def _argument(self, value: bool) -> str:
        said = value if self.is_only else {self.name: value}
        return f"{argument_name(self.role)}={said}"

    @property
    def _place(self) -> str:
        return "" if self.is_only else f" at its output '{self.name}'"

    def _unknown(self, error: UnknownEndingError) -> str:
        return (
            f"The {self.role} '{self.model.name}' ends in {error}{self._place}. Expected: a linear "
            "layer (logits), a softmax over the last axis, or a sigmoid. Pass "
            f"{self._argument(True)} if these are logits, {self._argument(False)} if they are "
            "probabilities, or give the model an ending of that kind."
        )

    def _doubted(self) -> str:
        return (
            f"The {self.role} '{self.model.name}' ends in a linear layer{self._place}, which gives "
            f"logits. Received: {self._argument(False)}, which says probabilities. Leave it out."
        )

    def _without_graph(self) -> str:
        return (
            f"The {self.role} is the {describe_without_graph(self.model)}, so whether it returns "
            f"logits{self._place} cannot be read off its graph. Pass {self._argument(True)} if it "
            f"returns logits (best), or {self._argument(False)} if it ends in softmax or sigmoid; "
            "or give its class an attribute `returns_logits`."
        )
