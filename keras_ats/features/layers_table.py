"""A table of what can be named in a loss on inner layers."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_ats.checks import check_function
from keras_ats.types import Shape
from keras_ats.views.features import all_paths
from keras_ats.views.graph import describe_without_graph, has_graph
from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.trial import trial_outputs


def layers(model: keras.Model, print_fn: Callable[[str], Any] = print) -> None:
    """Prints the layers of a model with their shapes, to choose from for losses on inner layers.

    Layers of nested models stand behind the names of those models; the last name will do where no
    other layer has it. Of a subclassed model, what it returns beside its logits is listed.

    Args:
        model: A built Keras model.
        print_fn: What each line is given to. Defaults to `print`.

    Raises:
        TypeError: If `model` is no Keras model, or `print_fn` no function.
        ValueError: If it has no graph and returns no dict with `logits`.

    Example:

    ```python
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, strides=2, name="stage1")]
    )
    keras_ats.features.layers(model)
    ```
    """
    as_keras_model(model, "`model`", "a built model")
    check_function(print_fn, "print_fn", "a function that takes a line of text")
    rows = [("name", "layer", "shape", "sizes"), *_rows(model)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_fn("  ".join(cells).rstrip())


def _rows(model: keras.Model) -> Iterator[tuple[str, str, str, str]]:
    if not has_graph(model):
        said = trial_outputs(model)
        if said is None:
            raise ValueError(
                f"The layers of a {describe_without_graph(model)} cannot be listed: it has no "
                f"graph. Received: '{model.name}'. Expected: a Sequential or Functional model, or "
                "one, built on the shape of its input, that returns a dict with 'logits'."
            )
        for name, value in said.items():
            if name != "logits":
                yield (name, "returned", *_described(tuple(value.shape)))
        return
    for name, path in all_paths(model):
        if isinstance(path[-1], keras.layers.InputLayer):
            continue
        yield (name, type(path[-1]).__name__, *_described(_shape_of(path[-1])))


def _shape_of(layer: keras.layers.Layer) -> Shape | None:
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):
        return None
    return tuple(shape)


def _described(shape: Shape | None) -> tuple[str, str]:
    if shape is None:
        return "several", ""
    return str(shape), " x ".join(str(size) for size in shape[1:-1])
