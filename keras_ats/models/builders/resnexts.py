"""ResNeXts for small images."""

import keras
from keras import layers

from keras_ats.checks import as_integer
from keras_ats.models.builders._network import Network, stage_name
from keras_ats.models.builders._sizes import blocks_per_stage


def resnext(
    cardinality: int,
    base_width: int,
    num_classes: int,
    *,
    depth: int = 29,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a CIFAR ResNeXt of depth 9n + 2, ending in logits.

    Bottleneck blocks whose 3x3 convolution falls apart into `cardinality` groups. The paper's
    ResNeXt-29, 8x64d is `resnext(8, 64, num_classes)`.

    Args:
        cardinality: Number of groups.
        base_width: Channels of a group in the first stage; they double at the next two.
        num_classes: Number of logits, at least 2.
        depth: 11, 20, 29 or another 9n + 2.
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
    teacher = keras_ats.models.resnext(4, 8, num_classes=100, depth=11)
    teacher.output_shape  # (None, 100)
    ```

    Reference: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR
    2017, arXiv 1611.05431.
    """
    blocks = blocks_per_stage(depth, layers_per_block=3, other_layers=2, family="ResNeXt")
    as_integer(cardinality, "cardinality")
    as_integer(base_width, "base_width")
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.batch_norm_relu(network.convolution(network.inputs, 64))
    for stage in range(3):
        inner = cardinality * base_width * 2**stage
        for block in range(blocks):
            shortcut, strides = x, 1
            if block == 0:
                strides = 2 if stage > 0 else 1
                shortcut = network.convolution(x, 256 * 2**stage, 1, strides=strides)
                shortcut = network.batch_norm(shortcut)
            x = network.batch_norm_relu(network.convolution(x, inner, 1))
            x = network.convolution(x, inner, strides=strides, groups=cardinality)
            x = network.convolution(network.batch_norm_relu(x), 256 * 2**stage, 1)
            name = stage_name(stage + 1, block == blocks - 1)
            x = layers.ReLU(name=name)(layers.Add()([network.batch_norm(x), shortcut]))
    return network.model(x)
