"""What the members of an ensemble must have in common."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ats.record import pick
from keras_ats.views.graph import graph_inputs, has_graph
from keras_ats.views.readings import Inverse
from keras_ats.views.view import View


def check_members(views: Sequence[View]) -> None:
    """Raises if members take other inputs, have other outputs or other classes.

    What code of a user's takes and returns is not known before it runs, and passes.
    """
    first = views[0]
    for view in views[1:]:
        if len(first.output_names) > 1 or len(view.output_names) > 1:
            _check("name their outputs alike", first, view, _names)
        _check("take the same inputs", first, view, _input_shapes)
        for name in first.output_names:
            _check("have the same classes", first, view, lambda one, name=name: _classes(one, name))


def common_families(views: Sequence[View], given: Inverse | None) -> dict[str, Inverse]:
    """Returns which activation's probabilities are mixed, by output.

    Args:
        views: The members.
        given: What the user says of them.

    Raises:
        ValueError: If members contradict each other or the user.
    """
    common: dict[str, Inverse] = {}
    first = views[0]
    for name in first.output_names:
        known = {
            family for view in views if (family := view.families[_own_name(view, name)]) is not None
        }
        if given is not None:
            known.add(given)
        if len(known) > 1:
            raise ValueError(
                "The members of an ensemble must end alike. Received: "
                f"{[(view.source.name, view.endings) for view in views]}, "
                f"probabilities_of={given!r}. Mix models whose classes exclude each other "
                "(softmax), or models whose classes do not (sigmoid)."
            )
        common[name] = known.pop() if known else _likely(views, name)
    return common


def _likely(views: Sequence[View], name: str) -> Inverse:
    # A softmax over one class would say nothing.
    return "sigmoid" if any(_classes(view, name) == 1 for view in views) else "softmax"


def _check(what: str, first: View, other: View, seen_in: Any) -> None:
    one, two = seen_in(first), seen_in(other)
    if one is None or two is None or _match(one, two):
        return
    raise ValueError(
        f"The members of an ensemble must {what}. Received: {one} of '{first.source.name}' and "
        f"{two} of '{other.source.name}'."
    )


def _match(one: Any, two: Any) -> bool:
    """Whether two values are equal, where both are known."""
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(_match, one, two))
    return one is None or two is None or one == two


def _names(view: View) -> Any:
    return sorted(view.output_names)


def _input_shapes(view: View) -> Any:
    if not has_graph(view.source):
        return None
    return [tuple(tensor.shape) for tensor in keras.tree.flatten(graph_inputs(view.source))]


def _own_name(view: View, name: str) -> str:
    return name if len(view.output_names) > 1 else view.output_names[0]


def _classes(view: View, name: str) -> Any:
    shape = pick(view.shapes.logits, name)
    return shape[-1] if shape else None
