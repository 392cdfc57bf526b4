"""The supervised loss: chosen by what a model ends in, or checked against it."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_ats import checks
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.label_crossentropy import LabelCrossentropy
from keras_ats.losses.regression_kd import RegressionKD
from keras_ats.views.view import View

_PROBABILITIES = {"softmax", "sigmoid"}
# Losses of Keras's that take probabilities and nothing else.
_OF_PROBABILITIES = {"kl_divergence", "dice", "tversky"}


def auto_loss(view: View | None, kd_losses: dict[str | None, list[Any]]) -> Any:
    """Returns what `loss="auto"` stands for, on the student's logits.

    Args:
        view: The student's; None while it waits for its shapes.
        kd_losses: The distillation losses by the output that they are for; None for the only one.

    Returns:
        A Keras loss; for several outputs a dict of them.

    Raises:
        ValueError: If neither the head nor a distillation loss tells, with the remedy.
    """
    if view is None:
        return _auto_loss(None, None, kd_losses[None], "the student's output")
    names = view.output_names
    families = view.families
    shapes = view.shapes.logits
    losses = {}
    for name in names:
        shape = shapes.get(name) if isinstance(shapes, dict) else shapes
        of_output = kd_losses.get(name, []) + kd_losses.get(None, [])
        if view.endings[name] == "unknown":
            raise ValueError(
                f"loss='auto' cannot tell how the output '{name}' learns from labels, because its "
                "logits cannot be read. Pass a loss for each output, such as "
                f"loss={{'{name}': 'mse', ...}}."
            )
        losses[name] = _auto_loss(families[name], shape, of_output, f"the output '{name}'")
    return losses if len(names) > 1 else losses[names[0]]


def _auto_loss(family: str | None, shape: Any, kd_losses: list[Any], place: str) -> Any:
    if family is None:
        # Of a student that is trained alone, those that the others have.
        kd_losses = [getattr(one, "in_place_of", one) for one in kd_losses]
        told = {one.family for one in kd_losses if isinstance(one, KDLoss)} - {None}
        family = next(iter(told)) if len(told) == 1 else None
        if family is None and any(isinstance(one, RegressionKD) for one in kd_losses):
            return keras.losses.MeanSquaredError()
    one_unit = isinstance(shape, tuple) and shape[-1] == 1
    if family == "sigmoid":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if one_unit:
        raise ValueError(
            f"loss='auto' cannot tell what the single linear unit of {place} is for. Pass "
            "loss=keras.losses.BinaryCrossentropy(from_logits=True) for a yes-or-no question, or "
            "loss='mse' for a value."
        )
    return LabelCrossentropy()


def check_loss(loss: Any, view: View) -> None:
    """Raises if a loss takes logits for probabilities, or probabilities for logits.

    Args:
        loss: What `compile` was given: a loss or its name, or a list or dict of them.
        view: The student's.
    """
    names = view.output_names
    if isinstance(loss, Mapping):
        by_name = dict(loss)
    elif isinstance(loss, list | tuple):
        by_name = dict(zip(names, loss, strict=False))
    else:
        by_name = dict.fromkeys(names, loss)
    for name, one in by_name.items():
        takes, ending = _what_it_takes(one), view.endings.get(name)
        if takes == "probabilities" and ending == "logits":
            raise ValueError(
                f"The student's output '{name}' ends in logits, and the loss takes them for "
                f"probabilities. Received: loss={one!r}. Pass loss='auto', or the loss with "
                "from_logits=True where it has that argument."
            )
        if takes == "logits" and ending in _PROBABILITIES:
            raise ValueError(
                f"The student's output '{name}' ends in {ending}, and the loss takes its "
                f"probabilities for logits. Received: loss={one!r}. Pass loss='auto', or a loss "
                "with from_logits=False."
            )


def _what_it_takes(loss: Any) -> Literal["logits", "probabilities"] | None:
    """What a loss takes the student's output for; None where nobody knows, or it does not care."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
    function, given = loss, {}
    if isinstance(loss, functools.partial):
        function, given = loss.func, loss.keywords
    name = getattr(function, "__name__", type(function).__name__)
    module = getattr(function, "__module__", "")
    if isinstance(loss, LabelCrossentropy):
        return "logits"
    if not module.startswith("keras."):
        return None
    if isinstance(loss, keras.losses.Loss):
        given = loss.get_config()
    elif name.endswith("crossentropy"):
        # A function of Keras's, whose default it is.
        given = {"from_logits": False, **given}
    if "from_logits" in given:
        return "logits" if given["from_logits"] else "probabilities"
    return "probabilities" if checks.snake_case(name) in _OF_PROBABILITIES else None
