"""MobileNets, second version, for small images."""

import keras
from keras import initializers, layers

from keras_ats.checks import as_integer
from keras_ats.models._checks import number_within
from keras_ats.models.builders._network import Network, stage_name

LEAST_WIDTH = 1 / 16
"""Below it, a layer of 16 channels would have none."""


def mobilenet_v2(
    num_classes: int,
    *,
    width: float = 0.5,
    expansion: int = 6,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a MobileNet V2 in the form of the distillation literature, ending in logits.

    Wide inner layers between narrow outer ones. As in the code of CRD, where it is the student of
    half width: the first convolution halves the image, and ReLU stands in for ReLU6.

    Args:
        num_classes: Number of logits, at least 2.
        width: Multiple of the paper's numbers of channels. Defaults to 0.5.
        expansion: By how much the inner layers of a block are wider. Defaults to 6.
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
    student = keras_ats.models.mobilenet_v2(num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
    arXiv 1801.04381; Tian et al., "Contrastive Representation Distillation", ICLR 2020, for the
    form.
    """
    number_within(width, "width", LEAST_WIDTH)
    as_integer(expansion, "expansion")
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.batch_norm_relu(network.convolution(network.inputs, int(32 * width), strides=2))
    # There is no first stage, as the first convolution halves the image.
    for factor, channels, blocks, first_strides, name in (
        (1, 16, 1, 1, None),
        (expansion, 24, 2, 1, stage_name(2)),
        (expansion, 32, 3, 2, stage_name(3)),
        (expansion, 64, 4, 2, None),
        (expansion, 96, 3, 1, stage_name(4)),
        (expansion, 160, 3, 2, None),
        (expansion, 320, 1, 1, None),
    ):
        for block in range(blocks):
            strides = first_strides if block == 0 else 1
            end = name if block == blocks - 1 else None
            x = _block(network, x, int(channels * width), factor, strides, end)
    x = network.convolution(x, int(1280 * max(width, 1)), 1)
    x = network.batch_norm_relu(x, stage_name(5))
    return network.model(x, initializers.RandomNormal(stddev=0.01))


def _block(
    network: Network,
    x: keras.KerasTensor,
    channels: int,
    factor: int,
    strides: int,
    name: str | None,
) -> keras.KerasTensor:
    inner = network.batch_norm_relu(network.convolution(x, x.shape[-1] * factor, 1))
    inner = network.batch_norm_relu(network.depthwise(inner, strides))
    outer = network.batch_norm(network.convolution(inner, channels, 1))
    if strides > 1 or x.shape[-1] != channels:
        return outer
    return layers.Add(name=name)([outer, x])
