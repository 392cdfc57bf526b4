"""ShuffleNet, first version, for small images."""

import keras
from keras import layers

from keras_ats.models.builders._network import Network, average_pool, channel_shuffle, stage_name

GROUPS = 3
STEM_WIDTH = 24


def shufflenet_v1(
    num_classes: int,
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns the ShuffleNet with 3 groups in its CIFAR form, ending in logits.

    1x1 convolutions in groups, with a shuffle so that the groups hear of each other. As in the code
    of CRD: the stem is a 1x1 convolution, a ReLU follows the depthwise convolution too, and the
    narrow layers of a halving unit are a quarter of the channels that it *adds*.

    Args:
        num_classes: Number of logits, at least 2.
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
    student = keras_ats.models.shufflenet_v1(num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
    Mobile Devices", CVPR 2018, arXiv 1707.01083; Tian et al., "Contrastive Representation
    Distillation", ICLR 2020, for the form.
    """
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.convolution(network.inputs, STEM_WIDTH, 1)
    x = network.batch_norm_relu(x, stage_name(1))
    for stage, (width, units) in enumerate(((240, 4), (480, 8), (960, 4)), 2):
        added = _path(network, x, width - x.shape[-1], strides=2)
        x = layers.ReLU()(layers.Concatenate()([added, average_pool(x)]))
        for unit in range(1, units):
            name = stage_name(stage, unit == units - 1)
            x = layers.ReLU(name=name)(layers.Add()([_path(network, x, width), x]))
    return network.model(x)


def _path(
    network: Network, x: keras.KerasTensor, width: int, strides: int = 1
) -> keras.KerasTensor:
    # Three groups of the stem's few channels would be too little.
    groups = 1 if x.shape[-1] == STEM_WIDTH else GROUPS
    x = network.batch_norm_relu(network.convolution(x, width // 4, 1, groups=groups))
    x = network.batch_norm_relu(network.depthwise(channel_shuffle(x, groups), strides))
    return network.batch_norm(network.convolution(x, width, 1, groups=GROUPS))
