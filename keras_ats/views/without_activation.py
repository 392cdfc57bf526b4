"""A layer of the user's, called as if it had no activation."""

from typing import Any

import keras

from keras_ats.types import Tensor
from keras_ats.views.graph import unique_name


class WithoutActivation(keras.layers.Layer):
    """Calls a layer of the user's as if it had no activation."""

    def __init__(self, layer: keras.layers.Layer, owner: keras.layers.Layer, kind: str) -> None:
        super().__init__(name=unique_name(layer), dtype=layer.dtype_policy)
        self.activation = getattr(keras.activations, kind)
        self.layer = layer
        self.owner = owner
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        layer, owner = self.layer, self.owner
        regularizer = layer.activity_regularizer
        if isinstance(owner, (keras.layers.Activation, keras.layers.Softmax)):
            logits = inputs
        else:
            # Taken off only for the length of this call, which keeps every other property of the
            # layer (quantisation, LoRA, precision) without knowing of it.
            activation = owner.activation
            owner.activation = layer.activity_regularizer = None
            try:
                logits = layer(inputs)
            finally:
                owner.activation, layer.activity_regularizer = activation, regularizer
        if regularizer is not None:
            loss = regularizer(self.activation(logits))
            layer.add_loss(loss / keras.ops.cast(keras.ops.shape(logits)[0], loss.dtype))
        return logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)
