"""A number of the training that changes by a plan."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_ats.checks import Check, as_integer, as_number, as_string, finite_number, one_of
from keras_ats.configurable import Configurable, check_of
from keras_ats.distiller.distiller import Distiller
from keras_ats.types import Config

Values: TypeAlias = float | Sequence[float] | Mapping[int, float] | Callable[[int], float]
"""A number; a list or array, one for each place; a dict, from these places on; or a function.

Places are epochs or steps, counted from 0.
"""


class Schedule(keras.callbacks.Callback):
    """Sets a temperature, a weight, or any other variable, by epoch or by step.

    What is set depends on the epoch or step alone, so a resumed run goes on where it was, with
    `fit(initial_epoch=...)` as with `Backup`. It acts on every backend, within compiled steps too.

    Args:
        variable: A `keras.Variable`; or a name: `"kd_weight"`, `"student_weight"`, or that of a
            variable of the distiller's losses, such as `"temperature"`, `"correct_temperature"` or
            `"wrong_temperature"`. All variables of that name are set.
        values: A number; a list or array with one number for each epoch or step, the last of which
            stays; a dict of the epochs or steps from which on a number counts, starting with 0; or
            a function of the epoch or step, counted from 0, such as `Ramp(8.0, 2.0, 10)`.
        by: `"epoch"` (default) or `"step"`.

    Raises:
        TypeError: If `variable` or `values` are of another kind; in `fit`, if a name is given and
            the model is not a distiller.
        ValueError: If `values` are empty or without a value for 0; in `fit`, if there is no
            variable of that name, or it cannot have a value that is planned.

    Example:

    ```python
    from keras_ats.callbacks import Ramp, Schedule

    callbacks = [
        Schedule("correct_temperature", Ramp(8.0, 4.0, length=10)),
        Schedule("kd_weight", {0: 0.9, 20: 0.5}),
    ]
    ```
    """

    def __init__(
        self, variable: keras.Variable | str, values: Values, *, by: str = "epoch"
    ) -> None:
        super().__init__()
        if not isinstance(variable, keras.Variable):
            variable = as_string(variable, "variable", "the name of one, such as 'kd_weight'")
        self.variable = variable
        self.values = as_values(values, "values")
        self.by = one_of(by, "by", ("epoch", "step"))
        self._present: float | None = None
        self._targets: list[keras.Variable] = []
        self._first_step = 0
        self._steps = 0

    def value(self, place: int) -> float:
        """Returns the value in an epoch or step counted from 0."""
        return value_at(self.values, place)

    def targets(self) -> list[keras.Variable]:
        """Returns the variables that are set."""
        if isinstance(self.variable, keras.Variable):
            return [self.variable]
        return variables_named(self.model, self.variable, type(self).__name__)

    def on_train_begin(self, logs: Config | None = None) -> None:
        """Finds out before the first epoch whether all values can be set; called by Keras."""
        self._targets = self.targets()
        self._present = None
        epochs = (self.params or {}).get("epochs") or 1
        places = range(epochs) if self.by == "epoch" else (0,)
        for place in places:
            self._check(self.value(place))

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Sets the value of the epoch; called by Keras, which counts from 0."""
        if self.by == "epoch":
            self._set(self.value(epoch))
            return
        steps = (self.params or {}).get("steps") or self._steps
        if steps or not epoch:
            self._first_step = epoch * steps
        else:
            # Nobody knows how long an epoch is: the optimizer has counted.
            self._first_step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def on_train_batch_begin(self, batch: int, logs: Config | None = None) -> None:
        """Sets the value of the step; called by Keras, which counts within the epoch."""
        if self.by == "step":
            self._steps = max(self._steps, batch + 1)
            self._set(self.value(self._first_step + batch))

    def _set(self, value: float) -> None:
        if value == self._present:
            return
        self._check(value)
        settings = {id(one) for one in getattr(self.model, "settings", ())}
        others = any(id(one) not in settings for one in self._targets)
        if self.by == "step" and others and keras.backend.backend() == "jax":
            # Within an epoch the step holds the values of a model's variables, but for a
            # distiller's settings; it takes them up again.
            self.model.jax_state_sync()
        for variable in self._targets:
            variable.assign(value)
        self._present = value

    def _check(self, value: float) -> None:
        for variable in self._targets:
            check_of(variable)(value, variable.name)


def as_values(values: Any, name: str, check: Check = finite_number) -> Values:
    """Returns `values`, or raises if they are no plan.

    Args:
        values: What was given.
        name: Name of its argument.
        check: What each number must pass, as far as it is known yet. Defaults to `finite_number`.
    """
    if callable(values):
        return values
    if isinstance(values, Mapping):
        plan = {
            as_integer(place, name, minimum=0): check(value, name)
            for place, value in values.items()
        }
        if 0 not in plan:
            raise ValueError(
                f"`{name}` must say what counts from 0 on. Received: {name}={values!r}. Expected: "
                "such as {0: 4.0, 10: 2.0}."
            )
        return plan
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if isinstance(values, list | tuple):
        if not values:
            raise ValueError(f"`{name}` must not be empty. Received: {name}={values!r}.")
        return [check(value, name) for value in values]
    if isinstance(values, str | bytes) or hasattr(values, "shape") or values is None:
        raise TypeError(
            f"`{name}` must be a number, a list of numbers, a dict of numbers by epoch or step, or "
            f"a function such as Ramp(8.0, 2.0, 10). Received: {name}={values!r} of type "
            f"{type(values).__name__}."
        )
    return check(values, name)


def value_at(values: Values, place: int) -> float:
    """Returns the value of a plan at a place counted from 0."""
    if callable(values):
        value = values(place)
        if keras.ops.is_tensor(value):  # Of a schedule of keras.optimizers.schedules.
            value = keras.ops.convert_to_numpy(value)
        plain = value.item() if hasattr(value, "item") else value
        return as_number(plain, "values", "a function that returns a number for each place")
    if isinstance(values, Mapping):
        return values[max(start for start in values if start <= place)]
    if isinstance(values, list | tuple):
        return values[min(place, len(values) - 1)]
    return values  # type: ignore[return-value]


def variables_named(model: keras.Model, name: str, callback: str) -> list[keras.Variable]:
    """Returns the variables of a distiller's objective with this name.

    Args:
        model: What is trained.
        name: Their name.
        callback: Who asks, for messages.
    """
    if not isinstance(model, Distiller):
        raise TypeError(
            f"{callback} sets '{name}' of a distiller. Received: {type(model).__name__} "
            f"'{model.name}'. Expected: Distiller(teacher, student).fit(..., "
            f"callbacks=[{callback}(...)]), or the variable itself."
        )
    found: dict[int, keras.Variable] = {}
    known = [model.kd_weight]
    if isinstance(model.student_weight, keras.Variable):
        known.append(model.student_weight)
    losses = model.kd_loss.values() if isinstance(model.kd_loss, dict) else model.kd_loss
    for loss in losses if not isinstance(losses, Configurable) else [losses]:
        known += loss.variables
    for variable in known:
        if variable.name == name:
            found[id(variable)] = variable
    if not found:
        names = sorted({variable.name for variable in known if variable.shape == ()})
        raise ValueError(
            f"{callback} found no variable of this name. Received: {name!r}. Expected: one of "
            f"{names}, or the variable itself."
        )
    return list(found.values())
