"""Inner layers of a model, read beside its logits."""

import difflib
from collections.abc import Iterator
from typing import Any

import keras

from keras_ats._keras import ExchangingModel, nodes_of
from keras_ats.types import Nested
from keras_ats.views.graph import (
    describe_without_graph,
    graph_inputs,
    graph_outputs,
    has_graph,
)


def at_layers(
    source: keras.Model, logits: Nested, names: tuple[str, ...], role: str
) -> keras.Model:
    """Returns a model that gives `{"logits": ..., "features": {name: ...}}`; weights are shared.

    A layer within a nested model is read while that model runs; nothing runs twice.

    Args:
        source: The user's model, which has the layers.
        logits: Tensors of its graph that are its logits.
        names: Names of layers; one of a nested model may have that model's name and a slash in
            front, where its own does not tell it from others.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: If there is no such layer, or its output cannot be read.
    """
    if not has_graph(source):
        raise ValueError(
            f"The {role} is the {describe_without_graph(source)}, so its inner layers cannot be "
            f"read off its graph. Received: the layers {list(names)}. Expected: a Sequential or "
            "Functional model, or one that returns a dict of 'logits' and of what its inner layers "
            "say, by name."
        )
    paths = {name: find_layer(source, name, role) for name in names}
    return _model_at(source, logits, paths, role)


def find_layer(
    model: keras.Model, name: str, role: str = "model"
) -> tuple[keras.layers.Layer, ...]:
    """Returns the nested models that lead to a layer, outermost first, and the layer.

    Args:
        model: A model with a graph.
        name: Name of the layer, with or without the names of the models around it.
        role: `"teacher"` or `"student"`, for messages.

    Raises:
        ValueError: If there is no such layer, or several.
    """
    paths = dict(all_paths(model))
    if name in paths:
        return paths[name]
    ending = [path for path in paths if path.endswith(f"/{name}")]
    if len(ending) == 1:
        return paths[ending[0]]
    if ending:
        raise ValueError(
            f"The {role} '{model.name}' has several layers of this name. Received: {name!r}. "
            f"Expected: one of {ending}."
        )
    known = {path.rsplit("/", 1)[-1]: path for path in reversed(paths)} | {p: p for p in paths}
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    raise ValueError(
        f"The {role} '{model.name}' has no layer of this name. Received: {name!r}. The nearest are "
        f"{[known[one] for one in close]}."
    )


def all_paths(
    model: keras.Model, before: tuple[keras.layers.Layer, ...] = ()
) -> Iterator[tuple[str, tuple[keras.layers.Layer, ...]]]:
    """All layers by their names, behind those of the nested models that they are in.

    Args:
        model: A model with a graph.
        before: The nested models around it.
    """
    for layer in model.layers:
        path = (*before, layer)
        yield "/".join(one.name for one in path), path
        if isinstance(layer, keras.Model) and has_graph(layer):
            yield from all_paths(layer, path)


def _model_at(
    model: keras.Model,
    logits: Nested,
    paths: dict[str, tuple[keras.layers.Layer, ...]],
    role: str,
) -> keras.Model:
    """A model over the same graph that gives its outputs, and those of the layers at `paths`."""
    own = {name: path[0] for name, path in paths.items() if len(path) == 1}
    within = {name: path for name, path in paths.items() if len(path) > 1}
    features = {name: output_of(model, layer, role) for name, layer in own.items()}
    outputs = {"logits": logits, "features": features}
    name = f"{model.name}_features"
    if not within:
        return keras.Model(graph_inputs(model), outputs, name=name)
    reading = ExchangingModel(graph_inputs(model), outputs, name=name)
    for inner in {id(path[0]): path[0] for path in within.values()}.values():
        rest = {one: path[1:] for one, path in within.items() if path[0] is inner}
        run = _run_of(reading, inner, [path[0] for path in rest.values()], role)
        reading.exchange(run, _model_at(run, graph_outputs(run), rest, role))
    return reading


def _run_of(
    reading: keras.Model, inner: keras.layers.Layer, needed: list[Any], role: str
) -> keras.Model:
    """The nested model that is run in the place of `inner`: itself, or its part up to the logits.

    A graph that is cut at the logits has a model of ours there, over the same layers.
    """
    runs = [node.operation for node in nodes_of(reading)]
    for run in (inner, *(one for one in runs if isinstance(one, keras.Model))):
        held = {id(layer) for layer in getattr(run, "layers", ())}
        if runs.count(run) == 1 and all(id(layer) in held for layer in needed):
            return run
    raise ValueError(
        f"The {role} runs its inner model '{inner.name}' more than once, or not on the way to its "
        f"logits, so which output is meant cannot be told. Received: layers of '{inner.name}'. "
        "Expected: layers of a model that is run once."
    )


def output_of(model: keras.Model, layer: keras.layers.Layer, role: str) -> keras.KerasTensor:
    """Returns what a layer gives in a model's graph, or raises if that is not one tensor.

    Args:
        model: A model with a graph.
        layer: A layer of it, not of a nested model.
        role: `"teacher"` or `"student"`, for messages.
    """
    calls = [node for node in nodes_of(model) if node.operation is layer]
    if len(calls) != 1 or len(calls[0].outputs) != 1:
        said = f"is called {len(calls)} times" if len(calls) != 1 else "has more than one output"
        raise ValueError(
            f"The output of the {role}'s layer '{layer.name}' cannot be read: it {said}. Name a "
            "layer behind it that is called once and has one output."
        )
    return calls[0].outputs[0]
