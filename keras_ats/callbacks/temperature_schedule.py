"""Temperatures by a plan."""

from keras_ats import checks
from keras_ats.callbacks.schedule import Schedule, Values, as_values
from keras_ats.types import Config


class TemperatureSchedule(Schedule):
    """Sets temperatures of the distiller's losses by epoch or by step.

    Args:
        temperature: For losses with one temperature: a number, a list, a dict or a function, as
            `values` of `Schedule`. None (default) leaves it alone.
        correct_temperature: The same for ATS's correct class. Defaults to None.
        wrong_temperature: The same for the wrong classes. Defaults to None.
        by: `"epoch"` (default) or `"step"`.

    Raises:
        TypeError: If a plan is of another kind, or the model is not a distiller.
        ValueError: If none is given; in `fit`, if no loss has such a temperature, or a value is not
            above 0.

    Example:

    ```python
    from keras_ats.callbacks import Ramp, TemperatureSchedule

    schedule = TemperatureSchedule(
        correct_temperature=Ramp(8.0, 4.0, length=20), wrong_temperature={0: 4.0, 10: 2.0}
    )
    ```
    """

    def __init__(
        self,
        temperature: Values | None = None,
        *,
        correct_temperature: Values | None = None,
        wrong_temperature: Values | None = None,
        by: str = "epoch",
    ) -> None:
        by = checks.one_of(by, "by", ("epoch", "step"))
        plans = {
            "temperature": temperature,
            "correct_temperature": correct_temperature,
            "wrong_temperature": wrong_temperature,
        }
        given = {name: plan for name, plan in plans.items() if plan is not None}
        if not given:
            raise ValueError(
                "TemperatureSchedule needs a plan. Received: temperature=None and neither of the "
                "others. Expected: such as TemperatureSchedule(correct_temperature={0: 8, 10: 4})."
            )
        self._parts = [
            Schedule(name, as_values(plan, name, checks.temperature), by=by)
            for name, plan in given.items()
        ]
        first = self._parts[0]
        super().__init__(first.variable, first.values, by=by)

    def set_model(self, model: object) -> None:
        """Takes note of what is trained; called by Keras."""
        super().set_model(model)
        for part in self._parts:
            part.set_model(model)

    def set_params(self, params: Config) -> None:
        """Takes note of epochs and steps; called by Keras."""
        super().set_params(params)
        for part in self._parts:
            part.set_params(params)

    def on_train_begin(self, logs: Config | None = None) -> None:
        """Finds out before the first epoch whether all values can be set; called by Keras."""
        for part in self._parts:
            part.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Sets the temperatures of the epoch; called by Keras."""
        for part in self._parts:
            part.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Config | None = None) -> None:
        """Sets the temperatures of the step; called by Keras."""
        for part in self._parts:
            part.on_train_batch_begin(batch, logs)
