"""A network's graph as a string of sections, between the tensors that every path passes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_ats._keras import all_layers, producer


@dataclass(frozen=True)
class Section:
    """Operations between two tensors that every path passes, and the second of these."""

    operations: list[Any]
    end: keras.KerasTensor

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Its layers, at any depth."""
        own = [operation for operation in self.operations if isinstance(operation, layers.Layer)]
        return [layer for operation in own for layer in all_layers(operation)]

    @property
    def has_weights(self) -> bool:
        """Whether any of its layers has weights."""
        return any(layer.weights for layer in self.layers)

    @property
    def is_block(self) -> bool:
        """Whether it has weights and branches."""
        # A layer made of layers, other than a chain of them, has its branches inside.
        is_composite = len(self.layers) > 1 and not self.is_one_of((keras.Sequential,))
        return self.has_weights and (len(self.operations) > 1 or is_composite)

    def is_one_of(self, types: tuple[type, ...]) -> bool:
        """Whether it is a single layer of one of the types."""
        return len(self.operations) == 1 and isinstance(self.operations[0], types)


def sections_of(backbone: keras.Model) -> Iterator[Section]:
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
            yield Section(operations, next(iter(waiting.values()), backbone.outputs[0]))
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
