"""Finds the stem of an image network: what shrinks the image before the first block.

Names of layers differ between libraries, the shape of the graph does not. A network is a string of
sections, between the tensors that every path through the graph passes. The first section that has
branches and weights is the first block (residual, dense, cross stage).
"""

from dataclasses import dataclass

import keras
from keras import layers

from keras_ats.models.adapters._sections import Section, sections_of

PROBE_SIZE = 256
"""Pixels of an image, where a network takes any; large enough for every halving to show."""

_PREPROCESSING = (layers.Rescaling, layers.Normalization)
# They belong to the convolution before them.
_AFTER_CONVOLUTION = (
    layers.BatchNormalization,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
)


@dataclass(frozen=True)
class Stem:
    """The part of a network that a CIFAR form replaces.

    Attributes:
        preprocessing: Layers at the very start that scale pixel values; they stay.
        end: What the stem returns, a tensor of the network's graph.
        is_normalized: Whether batch normalisation is part of the stem.
    """

    preprocessing: list[keras.layers.Layer]
    end: keras.KerasTensor
    is_normalized: bool


def find_stem(backbone: keras.Model, channels_first: bool) -> Stem:
    """Finds the stem of `backbone`, a model from one image to one feature map.

    Args:
        backbone: The network; left as it is.
        channels_first: Whether channels come before height and width.

    Returns:
        The stem.

    Raises:
        ValueError: If there is no block, or nothing before it that shrinks the image.
    """
    before_block = []
    for section in sections_of(backbone):
        if section.is_block:
            break
        before_block.append(section)
    else:
        raise _no_stem(backbone, "no block with branches, whose input would be the stem's end")
    heights = _heights(backbone, before_block, 2 if channels_first else 1)
    stem = before_block[: _end_of_shrinking(before_block, heights)]
    if not stem:
        raise _no_stem(
            backbone,
            "nothing that shrinks the image before the first block, so it has full resolution "
            "already: use it as it is",
        )
    stem_layers = [layer for section in stem for layer in section.layers]
    for layer in stem_layers:
        if isinstance(layer, layers.DepthwiseConv2D | layers.SeparableConv2D):
            raise _no_stem(
                backbone,
                f"'{layer.name}', a {type(layer).__name__} and so part of a block, before the "
                "first block with branches",
            )
    return Stem(
        _preprocessing(stem),
        stem[-1].end,
        any(isinstance(layer, layers.BatchNormalization) for layer in stem_layers),
    )


def _heights(backbone: keras.Model, sections: list[Section], axis: int) -> list[int]:
    """Returns the height of an image at the end of each section."""
    image = backbone.inputs[0]
    graph = keras.Model(image, [section.end for section in sections])
    shapes = graph.compute_output_shape([size or PROBE_SIZE for size in image.shape])
    return [shape[axis] for shape in shapes]


def _end_of_shrinking(sections: list[Section], heights: list[int]) -> int:
    """Returns how many sections there are up to the last that shrinks the image; 0 if none does."""
    count = 0
    for index in range(1, len(sections)):
        # A convolution without padding takes a few pixels away; this is not what is meant.
        if heights[index] <= 0.75 * heights[index - 1]:
            count = index + 1
    if count and sections[count - 1].has_weights:
        while count < len(sections) and sections[count].is_one_of(_AFTER_CONVOLUTION):
            count += 1
    return count


def _preprocessing(sections: list[Section]) -> list[keras.layers.Layer]:
    found = []
    # The first section is the input.
    for section in sections[1:]:
        if not section.is_one_of(_PREPROCESSING):
            break
        found.append(section.operations[0])
    return found


def _no_stem(backbone: keras.Model, found: str) -> ValueError:
    return ValueError(
        "The CIFAR form needs a network whose stem shrinks the image before the first block, such "
        "as ResNet, ResNetV2, DenseNet, CSPDarkNet (keras-cv) or CSPNet (KerasHub). Received: "
        f"'{backbone.name}', a {type(backbone).__name__} with {found}."
    )
