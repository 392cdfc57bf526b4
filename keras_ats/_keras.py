"""The only door to private parts of Keras.

What is imported or touched below has no public counterpart in Keras 3.15. It stands together so
that an upgrade that moves a part breaks in one file; `tests/test_keras_doors.py` pins what we
rely on.
"""

from typing import Any

import keras
from keras.src.backend import get_keras_mask
from keras.src.losses.loss import reduce_weighted_values, unscale_loss_for_distribution

from keras_ats.types import Tensor

__all__ = [
    "additional_losses",
    "all_layers",
    "call_arguments",
    "get_keras_mask",
    "producer",
    "reduce_weighted_values",
    "start_at_epoch",
    "symbolic_build",
    "unscale_loss_for_distribution",
]


def additional_losses(model: keras.Model) -> Tensor | None:
    """Sum of regularisers and `add_loss` terms, scaled as Keras does it; None without any."""
    terms = [model._aggregate_additional_loss(loss) for loss in model.losses]
    return keras.ops.sum(keras.ops.stack(terms)) if terms else None


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers within `model`, at any depth, itself included."""
    layers: list[keras.layers.Layer] = model._flatten_layers()
    return layers


def producer(tensor: keras.KerasTensor) -> Any:
    """The node of a functional graph that produced `tensor`."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def call_arguments(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that the node's operation was called with."""
    return node.arguments.args, node.arguments.kwargs


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Lets the `fit` that is about to begin start at `epoch`; None leaves it to its arguments."""
    model._initial_epoch = epoch


def symbolic_build(model: keras.Model, batch: Any) -> None:
    """Builds the model's metrics for a batch of `fit`, without running anything."""
    model._symbolic_build(data_batch=batch)
