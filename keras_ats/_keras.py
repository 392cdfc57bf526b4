"""The only door to private parts of Keras.

What is imported or touched below has no public counterpart in Keras, or differs between 3.10 and
today's. It stands together so that an upgrade that moves a part breaks in one file;
`tests/test_keras_doors.py` pins what we rely on.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
from keras.src.backend import get_keras_mask
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.losses.loss import reduce_weighted_values, unscale_loss_for_distribution

from keras_ats.types import Tensor

__all__ = [
    "BatchAndLent",
    "ModelWithSafeState",
    "activity_loss",
    "additional_losses",
    "all_layers",
    "call_apart",
    "call_arguments",
    "check_compile",
    "get_keras_mask",
    "in_symbolic_scope",
    "mark_as_called",
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


# Not attributes of the model: its steps may be traced in several threads.
_LENT: ContextVar[Sequence[tuple[keras.Variable, Any]]] = ContextVar("keras_ats_lent", default=())


class ModelWithSafeState(keras.Model):
    """A model whose steps leave variables their values: always those of others, its own on failure.

    On JAX, `fit` empties all variables of a model and hands their values from step to step, each of
    which destroys what it was given. So variables of another model are lent: they go into the
    compiled step beside the batch, as arguments, and stay where they are. When a step raises,
    Keras leaves the model's own ones empty, and with them every model that shares them.
    """

    _purged_values: Sequence[tuple[keras.Variable, Any]] = ()
    _lent: Sequence[keras.Variable] = ()

    @property
    def lent_variables(self) -> Sequence[keras.Variable]:
        """Variables of others that a step reads; those that are the model's too do not count."""
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

    def _make_function(self, step_function: Any, *args: Any, **kwargs: Any) -> Any:
        is_prediction = bool(args or kwargs)
        if keras.backend.backend() != "jax" or is_prediction:
            return super()._make_function(step_function, *args, **kwargs)

        def with_lent(state: Any, batch: Any) -> Any:
            return step_function(state, BatchAndLent(batch, [one.value for one in self._lent]))

        return super()._make_function(with_lent)

    def _get_jax_state(self, *args: Any, **kwargs: Any) -> Any:
        # Found here, as all variables are, and not for each step: that takes long.
        own = {id(one) for one in (*self.trainable_variables, *self.non_trainable_variables)}
        lent = [one for one in self.lent_variables if id(one) not in own]
        # Past `__setattr__`, by which Keras would take them for the model's.
        object.__setattr__(self, "_lent", lent)
        return super()._get_jax_state(*args, **kwargs)

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

    def _purge_model_variables(self, *args: Any, **kwargs: Any) -> None:
        # Before `compile` there is none to ask for.
        optimizer = getattr(self, "optimizer", None)
        variables = [
            *self.trainable_variables,
            *self.non_trainable_variables,
            *(optimizer.variables if optimizer else []),
            *self.metrics_variables,
        ]
        object.__setattr__(self, "_purged_values", [(one, one._value) for one in variables])
        super()._purge_model_variables(*args, **kwargs)

    @contextlib.contextmanager
    def _kept_state(self) -> Iterator[None]:
        if keras.backend.backend() != "jax":
            yield
            return
        # What an earlier call left there is older than the variables.
        self._jax_state = None
        try:
            yield
        except BaseException:
            # The last step that succeeded has left its state here; before the first one the old
            # values are still alive.
            self.jax_state_sync()
            for variable, value in self._purged_values:
                if variable._value is None:
                    variable._value = value
            raise
        finally:
            object.__setattr__(self, "_purged_values", ())


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
