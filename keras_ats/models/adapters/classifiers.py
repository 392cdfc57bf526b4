"""A logits head on a backbone of any library."""

from typing import Any

import keras
from keras import layers

from keras_ats.checks import as_integer
from keras_ats.models._checks import number_within
from keras_ats.models.adapters._backbones import check_backbone, data_format

# Logits keep their precision where the backbone computes in float16 or bfloat16.
_HEAD_DTYPE = "float32"


def classifier(
    backbone: keras.Model, num_classes: int, *, dropout: float = 0.0, name: str | None = None
) -> keras.Model:
    """Puts a classification head that returns logits on a backbone.

    For backbones of keras-cv, KerasHub or `keras.applications`, or your own. Feature maps
    `(batch, height, width, channels)` are averaged over the image, tokens
    `(batch, tokens, channels)` over the tokens, vectors `(batch, channels)` are taken as they are;
    then follow dropout, if any, and one Dense layer. The head computes in float32, also under mixed
    precision.

    The backbone's weights are shared, not copied. A saved classifier loads where the library of its
    backbone is installed: keras-cv and KerasHub are imported by Keras itself, any other library by
    you, before `keras.models.load_model`.

    Args:
        backbone: A Functional or Sequential model from one input to features. Channels may come
            first, if the backbone's layers say so.
        num_classes: Number of logits, at least 2.
        dropout: Share of features that are dropped in training, within [0, 1). Defaults to 0.
        name: Name of the model. Defaults to the backbone's with `_classifier`.

    Returns:
        A model from what the backbone takes to logits `(batch, num_classes)`, float32. The backbone
        is one layer of it, under its own name.

    Raises:
        TypeError: If `backbone` is not a Keras model, or a number is of the wrong type.
        ValueError: If the backbone has no graph or several inputs or outputs, is a classifier
            already, returns something else than features, or a number is out of range.

    Example:

    ```python
    backbone = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, strides=2, activation="relu")]
    )
    teacher = keras_ats.models.classifier(backbone, num_classes=10)
    teacher.output_shape  # (None, 10)
    ```
    """
    check_backbone(backbone)
    _check_headless(backbone)
    as_integer(num_classes, "num_classes", minimum=2)
    number_within(dropout, "dropout", 0, below=1)
    # A Sequential model has no `input` before it has been called.
    structure = backbone.inputs[0] if isinstance(backbone, keras.Sequential) else backbone.input
    inputs = keras.tree.map_structure(_input_like, structure)
    features = _pooled(backbone(inputs), backbone)
    if dropout:
        features = layers.Dropout(dropout, dtype=_HEAD_DTYPE, name="dropout")(features)
    name = f"{backbone.name}_classifier" if name is None else name
    logits = layers.Dense(num_classes, dtype=_HEAD_DTYPE, name="logits")(features)
    return keras.Model(inputs, logits, name=name)


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _pooled(features: keras.KerasTensor, backbone: keras.Model) -> keras.KerasTensor:
    """Returns features `(batch, channels)`."""
    rank = len(features.shape)
    if rank == 4:
        return layers.GlobalAveragePooling2D(
            data_format=data_format(backbone), dtype=_HEAD_DTYPE, name="pool"
        )(features)
    if rank == 3:
        return layers.GlobalAveragePooling1D("channels_last", dtype=_HEAD_DTYPE, name="pool")(
            features
        )
    if rank == 2:
        return features
    raise ValueError(
        "The backbone must return a feature map (batch, height, width, channels), tokens (batch, "
        f"tokens, channels) or vectors (batch, channels). Received: '{backbone.name}' with output "
        f"shape {tuple(features.shape)}. Pool the other axes first."
    )


def _check_headless(backbone: Any) -> None:
    last = backbone.layers[-1]
    activation = getattr(last, "activation", None)
    if isinstance(last, layers.Softmax) or activation is keras.activations.softmax:
        raise ValueError(
            f"The backbone must end in features. Received: '{backbone.name}', which ends in a "
            "softmax, so it is a classifier already. Use it as it is: `Distiller` reads its "
            "logits. Or build it without its head (include_top=False)."
        )
    # The tasks of keras-cv and KerasHub.
    if isinstance(getattr(backbone, "backbone", None), keras.Model):
        raise ValueError(
            f"The backbone must end in features. Received: '{backbone.name}' of type "
            f"{type(backbone).__name__}, which has a head already. Use it as it is, or pass its "
            "`.backbone`."
        )
