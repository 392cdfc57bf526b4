"""The only door to private parts of Keras.

What is imported or touched below has no public counterpart in Keras, or differs between 3.10 and
today's. It stands together so that an upgrade that moves a part breaks in one file;
`tests/test_keras_doors.py` pins what we rely on.
"""

import contextlib
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import keras
from keras.src.backend import compute_output_spec, get_keras_mask
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.losses.loss import reduce_weighted_values, unscale_loss_for_distribution
from keras.src.models.functional import operation_fn

from keras_ats.types import Tensor

__all__ = [
    "BatchAndLent",
    "ExchangingModel",
    "ModelWithSafeState",
    "activity_loss",
    "additional_losses",
    "all_layers",
    "call_apart",
    "call_arguments",
    "check_compile",
    "compute_output_spec",
    "get_keras_mask",
    "in_symbolic_scope",
    "mark_as_called",
    "nodes_of",
    "producer",
    "reduce_weighted_values",
    "refilled_arguments",
    "start_at_epoch",
    "symbolic_build",
    "unscale_loss_for_distribution",
]


_VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])
# Before 3.14 the strength of an activity regulariser grew with the batch.
_ACTIVITY_IS_PER_SAMPLE = _VERSION >= (3, 14)


def activity_loss(regularizer: Callable[[Tensor], Tensor], outputs: Tensor) -> Tensor:
    """What a layer with this `activity_regularizer` adds to the losses for its outputs."""
    loss = regularizer(outputs)
    if not _ACTIVITY_IS_PER_SAMPLE:
        return loss
    return keras.ops.divide_no_nan(loss, keras.ops.cast(keras.ops.shape(outputs)[0], loss.dtype))


class BatchAndLent(NamedTuple):
    """A batch of JAX's compiled step, and the values of variables that are lent to it."""

    batch: Any
    lent: Sequence[Any]


_NOT_IN_OTHER_THREADS = (
    "On JAX a model that is being trained can be called in another thread, model(x), but its "
    "`predict`, `evaluate`, `fit` and methods on batches, which write its variables, cannot. "
    "Call it, or do this in a callback of the training."
)


def _is_read_for_a_step() -> bool:
    """Whether a variable is being read by a method of Keras that will write it back."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(6):
        if frame is not None and frame.f_code.co_name == "_get_jax_state":
            return True
        frame = frame and frame.f_back
    return False


# Not attributes of the model: its steps may be traced in several threads.
_LENT: ContextVar[Sequence[tuple[keras.Variable, Any]]] = ContextVar("keras_ats_lent", default=())


class ModelWithSafeState(keras.Model):
    """A model whose steps leave variables their values: always those of others, its own on failure.

    On JAX, `fit` empties all variables of a model and hands their values from step to step, each of
    which destroys what it was given. So variables of another model are lent: they go into the
    compiled step beside the batch, as arguments, and stay where they are. The model's own can be
    read all the same, in callbacks and in other threads. When a step raises, Keras leaves them
    empty, and with them every model that shares them.
    """

    # What is empty at present, in the order of the state that goes from step to step.
    _emptied: Mapping[str, Sequence[keras.Variable]] = {}
    _purged_values: Mapping[int, tuple[keras.Variable, Any]] = {}
    _thread: int | None = None
    _lent: Sequence[keras.Variable] = ()

    @property
    def lent_variables(self) -> Sequence[keras.Variable]:
        """Variables of others that a step reads; those that are the model's too do not count."""
        return ()

    @property
    def settings(self) -> Sequence[keras.Variable]:
        """Variables of the model that callbacks assign, between steps too, and steps only read."""
        return ()

    def take_lent(self) -> None:
        """Gives the lent variables, within a step, the values that were lent to it."""
        for variable, value in _LENT.get():
            variable.assign(value)  # For this step only: Keras runs it in a stateless scope.

    def changed_batch(self, batch: Any) -> Any:
        """What a training step makes of its batch first; variables may change meanwhile."""
        return batch

    def train_step(self, *args: Any) -> Any:
        """Runs one training step; called by Keras, with the state first on JAX."""
        with self._taken_apart(args) as (*state, batch):
            if not state:
                return super().train_step(self.changed_batch(batch))
            trainable, non_trainable, *others = state[0]
            own = self.non_trainable_variables
            with keras.StatelessScope(list(zip(own, non_trainable, strict=True))) as scope:
                batch = self.changed_batch(batch)
            non_trainable = [scope.get_current_value(one) for one in own]
            return super().train_step((trainable, non_trainable, *others), batch)

    def test_step(self, *args: Any) -> Any:
        """Runs one evaluation step; called by Keras, with the state first on JAX."""
        with self._taken_apart(args) as arguments:
            return super().test_step(*arguments)

    def look_at_batch(self, batch: Any) -> None:
        """Is shown the batch that Keras reads to build a model for the data of its first `fit`."""

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        def looked_at() -> Iterator[Any]:
            # The number of a step comes first, in later versions of Keras two of them.
            for *numbers, batches in iterator:
                batch = batches[0] if isinstance(batches, list | tuple) else next(batches)
                self.look_at_batch(batch)
                yield (*numbers, [batch])

        # On TensorFlow it is no batch of the data that comes here, if any.
        is_read = iterator is not None and data_batch is None
        super()._symbolic_build(looked_at() if is_read else iterator, data_batch)

    def _make_function(self, step_function: Any, *args: Any, **kwargs: Any) -> Any:
        is_prediction = bool(args or kwargs)
        if keras.backend.backend() != "jax" or is_prediction:
            return super()._make_function(step_function, *args, **kwargs)

        def with_lent(state: Any, batch: Any) -> Any:
            lent = BatchAndLent(batch, [one.value for one in self._lent])
            done = step_function(self._with_settings(state), lent)
            # What a failure would have brought back is not needed any more, nor kept alive.
            object.__setattr__(self, "_purged_values", {})
            return done

        return super()._make_function(with_lent)

    def _get_jax_state(self, *args: Any, **kwargs: Any) -> Any:
        # Found here, as all variables are, and not for each step: that takes long.
        own = {id(one) for one in (*self.trainable_variables, *self.non_trainable_variables)}
        lent = [one for one in self.lent_variables if id(one) not in own]
        # Past `__setattr__`, by which Keras would take them for the model's.
        object.__setattr__(self, "_lent", lent)
        self._take_state_back()
        state = super()._get_jax_state(*args, **kwargs)
        if threading.active_count() > 1:
            # Another thread may have read a variable this very moment, and be about to use it.
            state = keras.tree.map_structure(keras.ops.copy, state)
        return state

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as in Keras."""
        with self._kept_state():
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the model, as in Keras."""
        with self._kept_state():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predicts, as in Keras."""
        with self._kept_state():
            return super().predict(*args, **kwargs)

    @contextlib.contextmanager
    def _taken_apart(self, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """The arguments of a step as Keras has them; what is lent is there for `take_lent`."""
        *state, batch = arguments
        lent: Sequence[Any] = ()
        if isinstance(batch, BatchAndLent):
            batch, lent = batch
        token = _LENT.set(list(zip(self._lent, lent, strict=True)) if lent else ())
        try:
            yield (*state, batch)
        finally:
            _LENT.reset(token)

    def _purge_model_variables(self, **kinds: bool) -> None:
        # Before `compile` there is none to ask for.
        optimizer = getattr(self, "optimizer", None)
        variables = {
            "trainable_variables": self.trainable_variables,
            "non_trainable_variables": self.non_trainable_variables,
            "optimizer_variables": optimizer.variables if optimizer else [],
            "metrics_variables": self.metrics_variables,
        }
        emptied = {kind: list(ones) for kind, ones in variables.items() if kinds.get(kind)}
        ones = [one for of_kind in emptied.values() for one in of_kind]
        # An earlier state says nothing of what callbacks have assigned since.
        self._jax_state = None
        # Past `__setattr__`, by which Keras would wrap them.
        for name, value in {
            "_purged_values": {id(one): (one, one._value) for one in ones},
            "_emptied": emptied,
            "_thread": threading.get_ident(),
        }.items():
            object.__setattr__(self, name, value)
        for kind, of_kind in emptied.items():
            for index, one in enumerate(of_kind):
                # This is what Keras asks for the value of a variable that has none.
                one._initializer = partial(self._present_value, one, kind, index)
        super()._purge_model_variables(**kinds)

    def _present_value(
        self, variable: keras.Variable, kind: str, index: int, *args: Any, **kwargs: Any
    ) -> Any:
        """The value of an emptied variable, where it is now."""
        if threading.get_ident() != self._thread and _is_read_for_a_step():
            # They write back what they have read, which by then is old.
            raise RuntimeError(_NOT_IN_OTHER_THREADS)
        while (value := variable._value) is None:
            state: Mapping[str, Any] = self._jax_state or {}
            _, before = self._purged_values.get(id(variable), (variable, None))
            for present in (state[kind][index] if kind in state else before, before):
                if present is not None and not present.is_deleted():
                    # A copy, because the next step destroys it; perhaps this very moment.
                    with contextlib.suppress(RuntimeError, ValueError):
                        return keras.ops.copy(present)
            if variable._initializer is None and variable._value is None:
                raise RuntimeError(
                    f"The value of the variable '{variable.path}' was lost in a step that failed. "
                    "Load the model's weights again."
                )
            time.sleep(0.001)
        return value

    def _take_state_back(self) -> None:
        """Lets a callback call the model's methods in the midst of `fit`."""
        if self._emptied:
            if threading.get_ident() != self._thread:
                raise RuntimeError(_NOT_IN_OTHER_THREADS)
            self.jax_state_sync()

    def _with_settings(self, state: Any) -> Any:
        """The state of a step, with what callbacks have assigned to settings since the last one."""
        parts = [list(part) for part in state] if self._emptied else state
        settings = {id(one) for one in self.settings} if self._emptied else ()
        for part, variables in zip(parts, self._emptied.values(), strict=False):
            for index, variable in enumerate(variables):
                if variable._value is None:
                    continue
                if id(variable) in settings:
                    part[index] = variable._value
                # Other models that share it, and predict, write back what they have read.
                variable._value = None
        return tuple(parts)

    def jax_state_sync(self) -> None:
        """Gives the variables their values back; called by Keras after an epoch."""
        if self._jax_state and not self._jax_state_synced:
            assigned = [(one, one._value) for one in self.settings if self._emptied]
            super().jax_state_sync()
            for variable, value in assigned:
                if value is not None:
                    variable._value = value
            self._forget_emptied()

    def _forget_emptied(self) -> None:
        for variables in self._emptied.values():
            for variable in variables:
                variable._initializer = None
        object.__setattr__(self, "_emptied", {})

    @contextlib.contextmanager
    def _kept_state(self) -> Iterator[None]:
        if keras.backend.backend() != "jax":
            yield
            return
        self._take_state_back()
        # What an earlier call left there is older than the variables.
        self._jax_state = None
        try:
            yield
        except BaseException:
            # The last step that succeeded has left its state here; before the first one the old
            # values are still alive.
            self.jax_state_sync()
            for variable, value in self._purged_values.values():
                if variable._value is None:
                    variable._value = value
            raise
        finally:
            self._forget_emptied()
            object.__setattr__(self, "_purged_values", {})


def additional_losses(model: keras.Model) -> Tensor | None:
    """Sum of regularisers and `add_loss` terms, scaled as Keras does it; None without any."""
    terms = [model._aggregate_additional_loss(loss) for loss in model.losses]
    return keras.ops.sum(keras.ops.stack(terms)) if terms else None


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers within `model`, at any depth, itself included."""
    layers: list[keras.layers.Layer] = model._flatten_layers()
    return layers


def mark_as_called(model: keras.Model) -> None:
    """Lets a model be exported whose layers have been run, by a model that shares them."""
    model._called = True


def nodes_of(model: keras.Model) -> list[Any]:
    """The calls within the graph of a Functional or Sequential model."""
    by_depth = (getattr(model, "_functional", None) or model)._nodes_by_depth
    return [node for nodes in by_depth.values() for node in nodes if not node.is_input]


class ExchangingModel(keras.Model):
    """A functional model that runs others in the place of nested ones, and reads layers there.

    Those give `{"logits": ..., "features": {...}}`, of which the graph goes on with the first.
    """

    def exchange(self, operation: Any, reading: keras.Model) -> None:
        """Lets `reading` be run where the graph has `operation`."""
        # Past `__setattr__`, by which Keras would take it for a layer of the model's.
        readings = {**getattr(self, "_readings", {}), id(operation): reading}
        object.__setattr__(self, "_readings", readings)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Returns the graph's outputs, with what was read in nested models beside its own."""
        inputs = self._standardize_inputs(inputs)
        read: dict[str, Any] = {}

        def called(operation: Any) -> Any:
            reading = self._readings.get(id(operation))
            if reading is None:
                return operation_fn(operation, training=training)

            def run(*args: Any, **kwargs: Any) -> Any:
                said = reading(*args, training=training, **kwargs)
                read.update(said["features"])
                return said["logits"]

            return run

        outputs = self._run_through_graph(inputs, operation_fn=called)
        return {**outputs, "features": {**outputs["features"], **read}}


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


def check_compile(model: keras.Model, arguments: dict[str, Any]) -> None:
    """Raises what `compile` would raise, of which half is done by then.

    Args:
        model: The model that is to be compiled; left as it is.
        arguments: Those of `keras.Model.compile`.
    """
    trial = keras.Model(dtype=model.dtype_policy)
    trial.supports_jit = model.supports_jit
    if hasattr(model, "output_names"):
        trial.output_names = model.output_names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The real one gives them again.
        trial.compile(**arguments)


def symbolic_build(model: keras.Model, batch: Any) -> None:
    """Builds the model's metrics for a batch of `fit`, without running anything."""
    model._symbolic_build(data_batch=batch)


def call_apart(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls an operation of ours on tensors of the user's graph, which takes no note of it."""
    outputs = operation(*args, **kwargs)
    node = operation._inbound_nodes[-1]
    for tensor in node.input_tensors:
        # Keras follows graphs from their outputs back, so nothing misses the way forward.
        tensor._keras_history.operation._outbound_nodes.remove(node)
    return outputs


def refilled_arguments(
    node: Any, tensors: dict[int, keras.KerasTensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a node with other tensors, by the `id` of those that they stand for."""
    args, kwargs = node.arguments.fill_in(tensors)
    return args, kwargs


def less_is_better(metric: Any) -> bool:
    """Returns whether a metric of Keras, or one of this name, says of itself that less is better.

    Args:
        metric: A `keras.metrics.Metric`, or a name, which may be none of Keras's.
    """
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get(metric)
        except (ValueError, TypeError):  # Not one of Keras's, or one that takes arguments.
            return False
    return getattr(metric, "_direction", None) == "down"
