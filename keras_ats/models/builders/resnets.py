"""ResNets for small images."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_ats.models.builders._network import Network, stage_name
from keras_ats.models.builders._sizes import blocks_per_stage, channel_counts


def resnet(
    depth: int,
    num_classes: int,
    *,
    widths: Sequence[int] = (16, 16, 32, 64),
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a CIFAR ResNet of depth 6n + 2 with basic blocks, ending in logits.

    A 3x3 convolution, then three stages of n blocks with two 3x3 convolutions each; the second and
    third stage halve the image. Where the shape changes, the shortcut is a 1x1 convolution with
    batch normalisation, as in the code of CRD; the paper pads with zeros instead.

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110 or another 6n + 2.
        num_classes: Number of logits, at least 2.
        widths: Channels of the stem and of the three stages. `(32, 64, 128, 256)` makes the "x4"
            networks of CRD.
        input_shape: Height, width and channels of an image.
        weight_decay: As torch's SGD counts it; see `get`. Defaults to none.
        name: Name of the model.

    Returns:
        A model from images `(batch, height, width, channels)` to logits `(batch, num_classes)`.

    Raises:
        TypeError: If a number is of the wrong type.
        ValueError: If there is no such network.

    Example:

    ```python
    student = keras_ats.models.resnet(8, num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv
    1512.03385; Tian et al., "Contrastive Representation Distillation", ICLR 2020, for the shortcuts
    and the "x4" networks.
    """
    blocks = blocks_per_stage(depth, layers_per_block=2, other_layers=2, family="ResNet")
    stem, *stages = channel_counts(widths, 4)
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.batch_norm_relu(network.convolution(network.inputs, stem))
    for stage, width in enumerate(stages):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _block(network, x, width, strides, stage_name(stage + 1, block == blocks - 1))
    return network.model(x)


def _block(
    network: Network, x: keras.KerasTensor, width: int, strides: int, name: str | None
) -> keras.KerasTensor:
    shortcut = x
    if strides > 1 or x.shape[-1] != width:
        shortcut = network.batch_norm(network.convolution(x, width, 1, strides=strides))
    x = network.batch_norm_relu(network.convolution(x, width, strides=strides))
    x = network.batch_norm(network.convolution(x, width))
    return layers.ReLU(name=name)(layers.Add()([x, shortcut]))
