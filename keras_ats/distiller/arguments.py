"""Arguments of `compile` that Keras itself would look at in the first batch only, or never."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_ats.checks import as_list

# Names that Keras resolves by the shapes of labels and predictions.
_BY_SHAPE = {"accuracy", "acc", "crossentropy", "ce"}


def check_optimizer(optimizer: Any) -> None:
    """Raises if `optimizer` is no optimizer, nor the name or the config of one."""
    is_config = isinstance(optimizer, Mapping) and "class_name" in optimizer
    if isinstance(optimizer, str | keras.optimizers.Optimizer) or is_config:
        return
    hint = f" Call it: {optimizer.__name__}(...)." if isinstance(optimizer, type) else ""
    raise TypeError(
        "`optimizer` must be a keras.optimizers.Optimizer or its name. Received: "
        f"optimizer={optimizer!r} of type {type(optimizer).__name__}.{hint} Expected: 'adam', or "
        "keras.optimizers.SGD(0.1). A distiller that is only evaluated takes any."
    )


def check_losses(loss: Any) -> None:
    """Raises if `loss` is no supervised loss, nor None, nor a list or dict of them."""
    if loss is not None:
        _check_each(
            loss, "loss", keras.losses.get, "'auto', a loss of keras.losses, its name, or None"
        )


def check_metrics(metrics: Any, name: str = "metrics") -> None:
    """Raises if `metrics` are no metrics, nor None, nor lists or dicts of them."""
    if metrics is None or (isinstance(metrics, list | tuple | Mapping) and not metrics):
        return
    _check_each(metrics, name, keras.metrics.get, "metrics of keras.metrics, or their names")


def as_lesson_metrics(metrics: Any, name: str = "distillation_metrics") -> tuple[Any, ...]:
    """Returns the metrics that see the lesson, or raises if they cannot."""
    given = as_list(metrics, name, "a list of metrics of keras_ats.metrics")
    for metric in given:
        if not callable(getattr(metric, "update_lesson", None)):
            raise TypeError(
                f"`{name}` must be of keras_ats.metrics, or have a method update_lesson(lesson) as "
                f"these do. Received: {metric!r} of type {type(metric).__name__}. Metrics of "
                "labels and predictions go into the `metrics` of `compile`."
            )
    return tuple(given)


def _check_each(value: Any, name: str, get: Callable[[Any], Any], expected: str) -> None:
    if isinstance(value, keras.losses.Loss) and value.reduction in (None, "none"):
        # TensorFlow would train on their sum, a step that grows with the batch.
        raise ValueError(
            f"A loss that trains must give one number. Received: {name}="
            f"{type(value).__name__}(reduction={value.reduction!r}). Leave `reduction` out."
        )
    if value is None or (callable(value) and not isinstance(value, type)):
        return
    if isinstance(value, Mapping) and "class_name" in value:
        return
    if isinstance(value, list | tuple | Mapping) and value:
        for one in value.values() if isinstance(value, Mapping) else value:
            _check_each(one, name, get, expected)
        return
    if isinstance(value, str):
        try:
            found = value in _BY_SHAPE or get(value)
        except ValueError:
            found = None
        if found:
            return
        raise ValueError(
            f"`{name}` is not known by this name. Received: {name}={value!r}. Expected: {expected}."
        )
    hint = f" Call it: {value.__name__}(...)." if isinstance(value, type) else ""
    raise TypeError(
        f"`{name}` is of the wrong type. Received: {name}={value!r} of type "
        f"{type(value).__name__}. Expected: {expected}.{hint}"
    )
