"""What is asked of any backbone: a model with a graph, one input and one output."""

from typing import Any

import keras

from keras_ats._keras import all_layers


def check_backbone(backbone: Any) -> None:
    """Raises unless `backbone` is a Keras model whose graph leads from one input to one output."""
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            f"`backbone` must be a keras.Model. Received: {backbone!r} of type "
            f"{type(backbone).__name__}. Expected, for example: "
            "keras_cv.models.ResNetBackbone(...)."
        )
    if getattr(backbone, "outputs", None) is None:
        raise ValueError(
            f"The backbone must be built from symbolic inputs. Received: '{backbone.name}', a "
            f"{type(backbone).__name__} without. Give a Sequential model a keras.Input; wrap a "
            "subclassed one: inputs = keras.Input(shape); keras.Model(inputs, model(inputs))."
        )
    if len(backbone.inputs) != 1:
        raise ValueError(
            f"The backbone must take one input, images. Received: '{backbone.name}' with inputs "
            f"{[tensor.name for tensor in backbone.inputs]}. Pool its output and add the Dense "
            "layer yourself; `Distiller` takes any model."
        )
    if len(backbone.outputs) != 1:
        structure = backbone.output
        shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), structure)
        key = list(structure)[-1] if isinstance(structure, dict) else -1
        raise ValueError(
            f"The backbone must return one tensor. Received: '{backbone.name}' with outputs "
            f"{shapes}. Select one: keras.Model(model.input, model.output[{key!r}])."
        )


def data_format(backbone: keras.Model) -> str:
    """Returns where the channels stand in the backbone's own layers."""
    formats = (getattr(layer, "data_format", None) for layer in all_layers(backbone))
    # A KerasHub backbone may differ from the Keras configuration.
    return next(filter(None, formats), keras.config.image_data_format())
