"""Finds the stem of an image network: what shrinks the image before the first block.

Names of layers differ between libraries, the shape of the graph does not. A network is a string of
sections, between the tensors that every path through the graph passes. The first section that has
branches and weights is the first block (residual, dense, cross stage).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_ats._keras import all_layers, producer

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


@dataclass(frozen=True)
class _Section:
    """Operations between two tensors that every path passes, and the second of these."""

    operations: list[Any]
    end: keras.KerasTensor

    @property
    def layers(self) -> list[keras.layers.Layer]:
        own = [operation for operation in self.operations if isinstance(operation, layers.Layer)]
        return [layer for operation in own for layer in all_layers(operation)]

    @property
    def has_weights(self) -> bool:
        return any(layer.weights for layer in self.layers)

    @property
    def is_block(self) -> bool:
        # A layer made of layers, other than a chain of them, has its branches inside.
        is_composite = len(self.layers) > 1 and not self.is_one_of((keras.Sequential,))
        return self.has_weights and (len(self.operations) > 1 or is_composite)

    def is_one_of(self, types: tuple[type, ...]) -> bool:
        return len(self.operations) == 1 and isinstance(self.operations[0], types)


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
    for section in _sections(backbone):
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


def _sections(backbone: keras.Model) -> Iterator[_Section]:
    """Splits the graph where a single tensor is still waited for."""
    nodes = _nodes_in_order(backbone.outputs[0])
    uses = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    waiting: dict[int, keras.KerasTensor] = {}
    operations = []
    for node in nodes:
        operations.append(node.operation)
        for tensor in node.input_tensors:
            uses[id(tensor)] -= 1
            if not uses[id(tensor)]:
                del waiting[id(tensor)]
        waiting.update({id(tensor): tensor for tensor in node.outputs if uses[id(tensor)]})
        # Nothing is waited for after the last.
        if len(waiting) <= 1:
            yield _Section(operations, next(iter(waiting.values()), backbone.outputs[0]))
            operations = []


def _nodes_in_order(output: keras.KerasTensor) -> list[Any]:
    """Returns what leads from the input to `output`, each call after those that it needs."""
    ordered: dict[int, Any] = {}
    pending = [producer(output)]
    while pending:
        node = pending[-1]
        needed = (producer(tensor) for tensor in node.input_tensors)
        missing = next((other for other in needed if id(other) not in ordered), None)
        if missing is None:
            ordered[id(pending.pop())] = node
        else:
            pending.append(missing)
    return list(ordered.values())


def _heights(backbone: keras.Model, sections: list[_Section], axis: int) -> list[int]:
    """Returns the height of an image at the end of each section."""
    image = backbone.inputs[0]
    graph = keras.Model(image, [section.end for section in sections])
    shapes = graph.compute_output_shape([size or PROBE_SIZE for size in image.shape])
    return [shape[axis] for shape in shapes]


def _end_of_shrinking(sections: list[_Section], heights: list[int]) -> int:
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


def _preprocessing(sections: list[_Section]) -> list[keras.layers.Layer]:
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
