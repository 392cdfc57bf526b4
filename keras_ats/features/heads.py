"""The classifiers of student and teacher, for losses that use them."""

from collections.abc import Callable
from typing import Any

from keras_ats.ops.class_maps import class_activations
from keras_ats.record import Shapes
from keras_ats.types import Shape, Tensor

ClassMaps = Callable[[Tensor], Tensor]
"""What a classifier makes of a layer at each of its positions."""


def check_classifier(shapes: Shapes, layer: str, loss: str, role: str) -> Any:
    """Returns the `Dense` layer at a model's end, or raises if it reads another layer.

    Args:
        shapes: What is known of the model.
        layer: Name of the layer, the mean over whose positions it is to read.
        loss: Name of the loss, for messages.
        role: `"teacher"` or `"student"`.

    Returns:
        The layer; None where there is no model to look at.

    Raises:
        ValueError: If the model does not end in a `Dense` layer, or that reads another layer.
    """
    if shapes.model is None:
        return None
    if shapes.classifier is None:
        raise ValueError(
            f"{loss} needs a {role} that ends in a Dense layer on the mean of '{layer}'. Received: "
            f"'{shapes.model.name}', which ends in something else. Use a loss that has a head of "
            "its own, such as Hint."
        )
    reads = shapes.classifier.reads
    if reads != layer.rsplit("/", 1)[-1]:
        raise ValueError(
            f"{loss} needs the {role}'s layer whose mean its head reads. Received: {layer!r}. "
            f"Expected: {reads!r}, which '{shapes.classifier.layer.name}' reads."
        )
    return shapes.classifier.layer


def class_maps(
    shapes: Shapes, feature: Shape, layer: str, loss: str, role: str
) -> ClassMaps | None:
    """Returns what makes class maps of a layer, or None where it holds them already.

    It reads the classifier whenever it is called, so that a student's trains with it.

    Args:
        shapes: What is known of the model.
        feature: Shape of the layer, channels last.
        layer: Name of the layer.
        loss: Name of the loss, for messages.
        role: `"teacher"` or `"student"`.
    """
    is_map = isinstance(shapes.logits, tuple) and feature[-1] == shapes.logits[-1]
    if is_map and (shapes.classifier is None or shapes.classifier.reads != layer):
        return None
    dense = check_classifier(shapes, layer, loss, role)
    if dense is None:
        return None
    return lambda values: class_activations(values, dense.kernel, dense.bias)
