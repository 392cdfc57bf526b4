"""VGG networks for small images."""

import keras
from keras import initializers

from keras_ats.checks import as_integer
from keras_ats.models.builders._network import Network, max_pool, stage_name

CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each block, by depth."""


def vgg(
    depth: int,
    num_classes: int,
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Returns a VGG network with batch normalisation for small images, ending in logits.

    As in the code of CRD: five blocks of 3x3 convolutions with biases, a pool after each of the
    first three (and the fourth, if images are 64 pixels high), then the mean over the image and one
    Dense layer. The depth counts the three Dense layers of the paper.

    Args:
        depth: 8, 11, 13, 16 or 19.
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
    student = keras_ats.models.vgg(8, num_classes=100)
    student.output_shape  # (None, 100)
    ```

    Reference: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015, arXiv 1409.1556; Tian et al., "Contrastive Representation
    Distillation", ICLR 2020, for the form.
    """
    if as_integer(depth, "depth") not in CONVOLUTIONS:
        raise ValueError(
            f"The depth of a VGG is one of {list(CONVOLUTIONS)}. Received: depth={depth!r}."
        )
    network = Network(num_classes, input_shape, weight_decay, name)
    pooled_blocks = 4 if input_shape[0] == 64 else 3
    x = network.inputs
    for block, width in enumerate((64, 128, 256, 512, 512)):
        count = CONVOLUTIONS[depth][block]
        # The last two blocks see images of one size, unless the first of them is pooled too.
        ends_stage = block < pooled_blocks or block == 4
        number = min(block, pooled_blocks) + 1
        for convolution in range(count):
            name = stage_name(number, ends_stage and convolution == count - 1)
            x = network.batch_norm_relu(network.convolution(x, width, use_bias=True), name)
        if block < pooled_blocks:
            x = max_pool(x)
    return network.model(x, initializers.RandomNormal(stddev=0.01))
