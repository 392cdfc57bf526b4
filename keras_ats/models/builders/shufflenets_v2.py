"""ShuffleNet, second version, for small images."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_ats.models.builders._network import Network, channel_shuffle, stage_name
from keras_ats.models.builders._sizes import channel_counts


def shufflenet_v2(
    num_classes: int,
    *,
    widths: Sequence[int] = (116, 232, 464, 1024),
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns the ShuffleNet V2 in its CIFAR form, ending in logits.

    A block works on one half of the channels and leaves the other alone; a shuffle mixes them. As
    in the code of CRD, the stem is a 1x1 convolution and nothing is pooled before the end.

    Args:
        num_classes: Number of logits, at least 2.
        widths: Channels of the three stages, which must be even, and of the last convolution.
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
    student = keras_ats.models.shufflenet_v2(num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
    Design", ECCV 2018, arXiv 1807.11164; Tian et al., "Contrastive Representation Distillation",
    ICLR 2020, for the form.
    """
    *stages, last = channel_counts(widths, 4)
    if any(width % 2 for width in stages):
        raise ValueError(
            "The stages of a ShuffleNet V2 work on halves of their channels, so their widths must "
            f"be even. Received: widths={widths!r}."
        )
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.batch_norm_relu(network.convolution(network.inputs, 24, 1), stage_name(1))
    for stage, (width, blocks) in enumerate(zip(stages, (3, 7, 3), strict=True), 2):
        x = _halving_block(network, x, width // 2)
        for block in range(blocks):
            # The fourth stage ends in the convolution behind its blocks.
            name = stage_name(stage, stage < 4 and block == blocks - 1)
            x = _block(network, x, name)
    return network.model(network.batch_norm_relu(network.convolution(x, last, 1), stage_name(4)))


def _halving_block(network: Network, x: keras.KerasTensor, half: int) -> keras.KerasTensor:
    left = network.batch_norm(network.depthwise(x, strides=2))
    left = network.batch_norm_relu(network.convolution(left, half, 1))
    return channel_shuffle(layers.Concatenate()([left, _path(network, x, half, strides=2)]), 2)


def _block(network: Network, x: keras.KerasTensor, name: str | None) -> keras.KerasTensor:
    kept, changed = keras.ops.split(x, 2, axis=-1)
    changed = _path(network, changed, changed.shape[-1])
    return channel_shuffle(layers.Concatenate()([kept, changed]), 2, name)


def _path(network: Network, x: keras.KerasTensor, half: int, strides: int = 1) -> keras.KerasTensor:
    x = network.batch_norm_relu(network.convolution(x, half, 1))
    x = network.batch_norm(network.depthwise(x, strides))
    return network.batch_norm_relu(network.convolution(x, half, 1))
