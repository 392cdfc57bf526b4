"""A layer of the user's, called as if it had no activation."""

from typing import Any, Self

import keras

from keras_ats._keras import activity_loss
from keras_ats.types import Config, Tensor
from keras_ats.views.graph import unique_name
from keras_ats.views.twins import twin_of


@keras.saving.register_keras_serializable(package="keras_ats")
class WithoutActivation(keras.layers.Layer):
    """Calls a layer as if it had no activation, and leaves it as it is.

    Args:
        layer: A layer of Keras that ends in an activation, also within `TimeDistributed`.
        kind: Name of that activation.
        name: Name of this layer.
        dtype: Leave it out; what counts is the layer's.
    """

    def __init__(
        self, layer: keras.layers.Layer, kind: str, name: str | None = None, dtype: Any = None
    ) -> None:
        # Not the layer's policy: that of a quantised layer asks for methods which only it has.
        super().__init__(name=name or unique_name(layer), dtype=layer.compute_dtype)
        # Inputs are the layer's to convert.
        self.autocast = self._convert_input_args = False
        self.kind = kind
        self.layer = layer
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Builds the layer, where it comes out of a file."""
        if not self.layer.built:
            self.layer.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Returns what the layer's activation would be given."""
        logits = inputs
        if not is_bare_activation(self.layer):
            # Made anew for each call: the layer may have been quantised, or given LoRA, since.
            logits = without_activation(self.layer)(inputs)
        regularizer = self.layer.activity_regularizer
        if regularizer is not None:
            outputs = getattr(keras.activations, self.kind)(logits)
            self.layer.add_loss(activity_loss(regularizer, outputs))
        return logits

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Returns the mask that the layer would hand on."""
        layer = self.layer
        return layer.compute_mask(inputs, previous_mask) if layer.supports_masking else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape that the layer returns."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "layer": keras.saving.serialize_keras_object(self.layer),
            "kind": self.kind,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Makes the layer that `get_config` described."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def is_bare_activation(layer: keras.layers.Layer) -> bool:
    """Whether a layer does nothing before its activation."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return is_bare_activation(layer.layer)
    return isinstance(layer, keras.layers.Activation | keras.layers.Softmax)


def without_activation(layer: keras.layers.Layer) -> Any:
    """Returns a twin of the layer that ends before its activation, and adds no loss of it."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return twin_of(layer, layer=without_activation(layer.layer), activity_regularizer=None)
    return twin_of(layer, activation=None, activity_regularizer=None)
