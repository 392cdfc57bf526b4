"""How one output of a model is read: four ways."""

from dataclasses import dataclass
from typing import Literal

import keras

from keras_ats.ops.probabilities import bernoulli_logits, centered_log_probabilities
from keras_ats.types import Tensor
from keras_ats.views.activations import Ending
from keras_ats.views.endings import FoundLogits

Inverse = Literal["softmax", "sigmoid"]
"""The activation that is taken back where a model returns probabilities."""


@dataclass(frozen=True)
class Reading:
    """How one output is read; this one: the model returns logits.

    Attributes:
        ending: What the model returns.
        problem: Why there are no logits to be had, with the remedy; None if there are.
        follows: Whether what the model returns is known from the logits.
    """

    ending: Ending = "logits"
    problem: str | None = None
    follows: bool = True

    def given(self, output: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the tensor that the view's graph gives in the place of an output."""
        return output

    def logits(self, said: Tensor) -> Tensor:
        """Returns the logits, from what the view's graph gave."""
        return said

    def prediction(self, logits: Tensor) -> Tensor:
        """Returns what the model returns, where that follows from its logits."""
        return logits


@dataclass(frozen=True)
class Unread(Reading):
    """There are no logits; what the model returns is handed on."""

    ending: Ending = "unknown"
    follows: bool = False


@dataclass(frozen=True)
class Probabilities(Reading):
    """The model is said to return probabilities, from which logits are recovered.

    Attributes:
        inverse: The activation that is taken back. One unit is always a sigmoid's: a softmax of
            one class says nothing.
    """

    ending: Ending = "probabilities"
    follows: bool = False
    inverse: Inverse = "softmax"

    def logits(self, said: Tensor) -> Tensor:
        """Returns the logits that give these probabilities."""
        if self.inverse == "sigmoid" or said.shape[-1] == 1:
            return bernoulli_logits(said)
        return centered_log_probabilities(said)


@dataclass(frozen=True)
class BeforeActivation(Reading):
    """The graph shows the logits, and which activation follows them.

    Attributes:
        tensor: The logits in the graph.
        activation: Layers that make of them what the model returns.
    """

    tensor: keras.KerasTensor = None
    activation: tuple[keras.layers.Layer, ...] = ()

    def given(self, output: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the tensor before the activation."""
        return self.tensor

    def prediction(self, logits: Tensor) -> Tensor:
        """Returns what the activation makes of the logits."""
        for layer in self.activation:
            logits = layer(logits)
        return logits


def before_activation(found: FoundLogits, output: keras.KerasTensor) -> BeforeActivation:
    """Reads an output at the logits that were found in front of its activation."""
    name = f"keras_ats_{found.ending}"
    # A fresh layer: Keras's Softmax layer reads a Keras mask as a mask over classes.
    layers = [keras.layers.Activation(found.ending, dtype=found.dtype, name=name)]
    if output.dtype != found.dtype:
        # By a layer, not by `keras.ops.cast`, which would lose the Keras mask.
        layers.append(keras.layers.Activation("linear", dtype=output.dtype, name=f"{name}_cast"))
    return BeforeActivation(found.ending, tensor=found.tensor, activation=tuple(layers))
