"""ImageNet networks for small images: the same trunk behind another stem."""

import keras
from keras import layers

from keras_ats.checks import as_integer
from keras_ats.models.adapters._backbones import check_backbone, data_format
from keras_ats.models.adapters._stem import Stem, find_stem


def cifar_backbone(
    backbone: keras.Model, *, image_size: int = 32, name: str | None = None
) -> keras.Model:
    """Returns an ImageNet backbone in the form for small images: a 3x3 stem, full resolution.

    The stem of an ImageNet network, such as a 7x7 convolution of stride 2 and a pool, leaves 8x8
    pixels of a 32x32 image. Here one 3x3 convolution of stride 1 takes its place, and the rest of
    the network, the trunk, stays as it is, with the weights it has. The four stages of a ResNet
    then see 32, 16, 8 and 4 pixels instead of 8, 4, 2 and 1. What is replaced ends where the image
    shrinks for the last time before the first block:

    | network | what the new stem replaces |
    | --- | --- |
    | ResNet, DenseNet | convolution(s), batch normalisation, ReLU, pool |
    | ResNetV2 | convolution, pool |
    | CSPDarkNet of keras-cv | focus, convolution, and the first stage's convolution of stride 2 |
    | CSPNet of KerasHub | convolution and pool; without a pool, as for CSPDarkNet |

    The new stem has batch normalisation and ReLU if the old one has batch normalisation. Layers at
    the start that scale pixel values (`include_rescaling=True`) stay. The stem is found by the
    shape of the graph, not by names, so that other networks of this kind work too, such as the
    ResNets of `keras.applications`.

    Args:
        backbone: A Functional model from images to one feature map, with its head off. It is left
            as it is, and **its trunk is shared**: training one trains the other.
        image_size: Height and width of the images, pixels. Defaults to 32.
        name: Name of the model. Defaults to the backbone's with `_cifar`.

    Returns:
        A model from images `(batch, image_size, image_size, channels)` to features
        `(batch, height, width, features)`. The trunk is one layer of it, `<backbone>_trunk`.

    Raises:
        TypeError: If `backbone` is not a Keras model, or `image_size` not an integer.
        ValueError: If the backbone has no graph, several inputs or outputs, no feature map as
            output, or no stem that could be replaced.

    Example:

    ```python
    import keras_cv

    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 64],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=True,
    )
    features = keras_ats.models.cifar_backbone(backbone)
    features.output_shape  # (None, 16, 16, 64)
    teacher = keras_ats.models.classifier(features, num_classes=10)
    ```

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv
    1512.03385, section 4.2, for the stem.
    """
    as_integer(image_size, "image_size")
    check_backbone(backbone)
    shapes = backbone.inputs[0].shape, backbone.outputs[0].shape
    if any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "The CIFAR form needs a network from images to a feature map, four axes each. "
            f"Received: '{backbone.name}' from {shapes[0]} to {shapes[1]}. Build it without its "
            "head, and put one on the result: keras_ats.models.classifier."
        )
    channels_first = data_format(backbone) == "channels_first"
    stem = find_stem(backbone, channels_first)
    channels = shapes[0][1 if channels_first else 3]
    inputs = keras.Input(_image(image_size, channels, channels_first))
    x = inputs
    for layer in stem.preprocessing:
        x = layer(x)
    x = _new_stem(x, stem, channels_first)
    outputs = _trunk(backbone, stem, x)(x)
    name = f"{backbone.name}_cifar" if name is None else name
    return keras.Model(inputs, outputs, name=name)


def _image(size: int, channels: int, channels_first: bool) -> tuple[int, int, int]:
    return (channels, size, size) if channels_first else (size, size, channels)


def _new_stem(x: keras.KerasTensor, stem: Stem, channels_first: bool) -> keras.KerasTensor:
    axis = 1 if channels_first else 3
    x = layers.Conv2D(
        stem.end.shape[axis],
        3,
        padding="same",
        # Batch normalisation has one of its own.
        use_bias=not stem.is_normalized,
        kernel_initializer="he_normal",
        data_format="channels_first" if channels_first else "channels_last",
        name="stem_conv",
    )(x)
    if stem.is_normalized:
        x = layers.BatchNormalization(axis=axis, name="stem_bn")(x)
        x = layers.ReLU(name="stem_relu")(x)
    return x


def _trunk(backbone: keras.Model, stem: Stem, features: keras.KerasTensor) -> keras.Model:
    """The network after its stem, with the same layers."""
    graph = keras.Model(stem.end, backbone.outputs[0], name=f"{backbone.name}_trunk")
    # The layers are called anew, because a graph may be made for one size of images.
    inputs = keras.Input(features.shape[1:])
    return keras.models.clone_model(graph, input_tensors=inputs, clone_function=_without_lambdas)


def _without_lambdas(layer: keras.layers.Layer) -> keras.layers.Layer:
    # keras-cv's CSPDarkNet writes SiLU as a Lambda. A saved file holds a Lambda as byte code, which
    # Keras rightly refuses to load.
    if not isinstance(layer, keras.Sequential):
        return layer
    parts = [layers.Activation("silu") if _is_silu(part) else part for part in layer.layers]
    return layer if parts == layer.layers else keras.Sequential(parts, name=layer.name)


def _is_silu(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, layers.Lambda):
        return False
    points = keras.ops.linspace(-8.0, 8.0, 33)
    difference = keras.ops.abs(layer.function(points) - keras.activations.silu(points))
    return bool(keras.ops.max(difference) < 1e-6)
