"""Goes on in the middle of an epoch."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ats._keras import symbolic_build
from keras_ats.types import Config


class FastForward:
    """Lets `fit` pass over the batches of an epoch on which an earlier process has trained.

    The batches are read, so that the data come to the place where they were, but no step is run.
    What callbacks see of these batches are the logs of the last one of them.

    Args:
        model: The model in `fit`, at the beginning of the epoch.
        batches: How many to pass over.
        logs: The logs of the last of them.
        metrics: Values of the model's metric variables after them.
        then: Called after the last of them, before the next batch is drawn.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: int,
        logs: Config,
        metrics: Sequence[np.ndarray],
        then: Callable[[], None],
    ) -> None:
        self.model = model
        self.calls_left = math.ceil(batches / model.steps_per_execution)
        self._logs = logs
        self._metrics = metrics
        self._then = then
        self._train_function = model.train_function
        self._metrics_are_set = False
        # TensorFlow has no variables of metrics before the first step; JAX takes them away from
        # the model in the first step.
        if len(model.metrics_variables) == len(metrics):
            self._set_metrics()
        model.train_function = self._next

    def _next(self, *arguments: Any) -> Any:
        """Stands for Keras's train function, whose arguments differ by backend."""
        self.calls_left -= 1
        # JAX puts the state in front and wants it back. torch hands over batches, the others what
        # they are to be taken from.
        *state, data = arguments
        if keras.backend.backend() != "torch":
            first = next(data)  # StopIteration ends the epoch, as it would in a step.
            list(itertools.islice(data, self.model.steps_per_execution - 1))
            if not self._metrics_are_set:
                symbolic_build(self.model, first)
                self._set_metrics()
        if not self.calls_left:
            # Now, not in the next call: torch draws the next batch before that.
            self.stop()
            self._then()
        return (self._logs, *state) if state else self._logs

    def stop(self) -> None:
        """Gives the model its own train function back."""
        self.model.train_function = self._train_function

    def _set_metrics(self) -> None:
        for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
            variable.assign(value)
        self._metrics_are_set = True
