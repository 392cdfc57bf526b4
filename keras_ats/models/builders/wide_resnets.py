"""Wide ResNets."""

import keras
from keras import layers

from keras_ats.checks import as_integer
from keras_ats.models._checks import number_within
from keras_ats.models.builders._network import Network, stage_name
from keras_ats.models.builders._sizes import blocks_per_stage


def wide_resnet(
    depth: int,
    widen_factor: int,
    num_classes: int,
    *,
    dropout: float = 0.0,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a wide ResNet (WRN) of depth 6n + 4, ending in logits.

    Few and wide layers instead of many narrow ones. Batch normalisation and ReLU come before each
    convolution. Where the number of channels changes, the shortcut is a bare 1x1 convolution of the
    *normalised* input, otherwise the input itself.

    Args:
        depth: 10, 16, 22, 28, 40 or another 6n + 4; it counts the three 1x1 shortcuts.
        widen_factor: The stages have 16, 32 and 64 times as many channels.
        num_classes: Number of logits, at least 2.
        dropout: Share of units that are dropped between the two convolutions of a block. Defaults
            to 0; the paper uses 0.3.
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
    student = keras_ats.models.wide_resnet(10, 1, num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146.
    """
    blocks = blocks_per_stage(depth, layers_per_block=2, other_layers=4, family="wide ResNet")
    as_integer(widen_factor, "widen_factor")
    number_within(dropout, "dropout", 0, below=1)
    network = Network(num_classes, input_shape, weight_decay, name)
    x = network.convolution(network.inputs, 16)
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            # The third stage ends in the normalisation and the ReLU behind its blocks.
            name = stage_name(stage + 1, stage < 2 and block == blocks - 1)
            x = _block(network, x, width * widen_factor, strides, dropout, name)
    return network.model(network.batch_norm_relu(x, stage_name(3)))


def _block(
    network: Network,
    x: keras.KerasTensor,
    width: int,
    strides: int,
    dropout: float,
    name: str | None,
) -> keras.KerasTensor:
    normalized = network.batch_norm_relu(x)
    if x.shape[-1] != width:
        shortcut = network.convolution(normalized, width, 1, strides=strides)
    else:
        shortcut = x
    x = network.batch_norm_relu(network.convolution(normalized, width, strides=strides))
    if dropout:
        x = layers.Dropout(dropout)(x)
    return layers.Add(name=name)([network.convolution(x, width), shortcut])
