"""Functions of rows that bring their own gradient, on each backend in its own way.

What a backend keeps of a loss for the way back is several times the logits. Keras has no way to do
better that all backends share; this is the only place that asks them for it.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
from keras import ops

from keras_ats.types import Tensor

# Entries that are worked on at a time, so that what is made of them stays within a CPU's cache.
_CHUNK = 2**17
# More where torch is called once for each step of a formula, which then takes as long as its work.
_CHUNK_OF_MANY_CALLS = 2**19
# An accelerator has more lanes to fill.
_CHUNK_OF_ACCELERATOR = 2**24
# Compiled backends fuse what a small batch needs as well.
_WORTH_COMPILING = 2**19
_MANY_CLASSES = 1000

# A tuple of tensors: those with rows have as many as the logits, the others are scalars; or None.
Constants: TypeAlias = Any


class RowLoss(NamedTuple):
    """A loss of rows in the forms that backends need; the first two may be shown some at a time.

    Or several values of each row, `(N, M)`; then `pulled` says what the gradient is.

    Attributes:
        losses: Of logits and constants: the loss of each row `(N,)`, and what `gradient` needs of
            each row, `(N, 1)` or more. Differentiable twice as it is.
        gradient: Of logits, constants and what was kept: the gradient of each row `(N, C)`.
        on_torch: Of logits, constants and an array `(N, C)` for the gradient or None: the loss of
            each row, and what the gradient is still to be multiplied by, a scalar or `(N, 1)`, or
            None. Torch fuses nothing, so this is written for it: called with the whole batch, it
            takes what is as large as the logits by `chunks_of_rows`.
        pulled: Of what `gradient` gave, which may be written to, weights of all values `(N, M)` and
            constants: the gradient of the weighted sum. None where each row has one value, by whose
            weight its gradient is multiplied.
    """

    losses: Callable[[Tensor, Constants], tuple[Tensor, Sequence[Tensor]]]
    gradient: Callable[[Tensor, Constants, Sequence[Tensor]], Tensor]
    on_torch: Callable[[Tensor, Constants, Tensor | None], tuple[Tensor, Tensor | None]]
    pulled: Callable[[Tensor, Tensor, Constants], Tensor] | None = None


def is_worth_own_gradient(logits: Tensor, least_on_torch: int = 0) -> bool:
    """Whether a loss of these logits gains from a gradient of its own.

    Args:
        logits: Tensor of shape `(..., C)`; its number of rows may be unknown.
        least_on_torch: Fewest entries, for a loss of which torch has a quick plain form.
    """
    if keras.backend.backend() == "torch":
        import torch

        # What compiles or transforms torch code cannot look into a function with its own gradient.
        if getattr(logits, "is_meta", True) or torch.compiler.is_compiling():
            return False
        return logits.numel() >= least_on_torch and not _is_transformed(torch)
    if keras.backend.backend() not in ("jax", "tensorflow"):
        return False
    if keras.backend.backend() == "tensorflow" and not _is_compiled_on_tensorflow(logits):
        return False
    size = 1
    for count in logits.shape:
        if count is None:
            return logits.shape[-1] is not None and logits.shape[-1] >= _MANY_CLASSES
        size *= count
    return size >= _WORTH_COMPILING


def made_forth(values: Callable[[Tensor, Constants], Tensor]) -> RowLoss:
    """A loss whose gradient the backend itself makes, on the way forth, of some rows at a time.

    What it keeps for that is as large as those rows, and gone with them: whatever the formula, what
    is left of the batch is its gradient. For torch and JAX: XLA does not compile the second
    derivative of a loop of TensorFlow's.

    Args:
        values: Of logits and constants: the loss of each row `(N,)`, which depends on no other row.
    """

    def losses(logits: Tensor, constants: Constants) -> tuple[Tensor, Sequence[Tensor]]:
        if keras.backend.backend() == "jax":
            return _both_on_jax(values, logits, constants)
        return values(logits, constants), ()

    def gradient(logits: Tensor, constants: Constants, kept: Sequence[Tensor]) -> Tensor:
        return kept[0]

    return RowLoss(losses, gradient, functools.partial(_both_on_torch, values))


def with_own_gradient(loss: RowLoss, logits: Tensor, constants: Constants) -> Tensor:
    """The loss of each row, differentiable in the logits alone.

    Args:
        loss: What is computed.
        logits: float32 tensor of shape `(..., C)`, of `N` rows.
        constants: The other arguments, without gradient.

    Returns:
        float32 tensor of shape `(...,)`, or `(..., M)`.
    """
    rows = as_rows(logits)
    backend = keras.backend.backend()
    if backend == "torch":
        values = _torch_function().apply(rows, loss, constants)
    else:
        values = (_on_jax if backend == "jax" else _on_tensorflow)(loss, rows, constants)
    if len(logits.shape) == 2:
        return values
    return ops.reshape(values, (*ops.shape(logits)[:-1], *values.shape[1:]))


def as_rows(values: Tensor) -> Tensor:
    """What lies at positions as `N` rows; a scalar as it is."""
    if len(values.shape) in (0, 2):
        return values
    return ops.reshape(values, (-1, values.shape[-1]))


def chunks_of_rows(logits: Any, entries: int | None = None) -> Iterator[slice]:
    """For torch: rows some at a time, few enough for what is made of them to stay in a cache."""
    if logits.device.type != "cpu":
        entries = _CHUNK_OF_ACCELERATOR
    elif entries is None:
        entries = _CHUNK
    size = max(1, entries // logits.shape[-1])
    return (slice(start, start + size) for start in range(0, len(logits), size))


def rows_of(constants: Constants, rows: slice) -> Constants:
    """The constants of some rows."""
    return type(constants)(
        *(one if one is None or not one.shape else one[rows] for one in constants)
    )


@functools.cache
def _torch_function() -> Any:
    import torch

    class WithOwnGradient(torch.autograd.Function):
        """Makes the gradient on the way forth, where all it needs is at hand."""

        @staticmethod
        def forward(ctx: Any, logits: Tensor, loss: RowLoss, constants: Constants) -> Tensor:
            needs_gradient = ctx.needs_input_grad[0]
            gradient = torch.empty_like(logits) if needs_gradient else None
            values, ctx.scale = loss.on_torch(logits, constants, gradient)
            ctx.save_for_backward(logits)
            ctx.loss, ctx.constants, ctx.gradient = loss, constants, gradient
            return values

        @staticmethod
        def backward(ctx: Any, weights: Tensor) -> tuple[Any, ...]:
            is_differentiated = torch.is_grad_enabled()
            gradient, ctx.gradient = ctx.gradient, None
            if gradient is not None and not is_differentiated:
                if ctx.loss.pulled is not None:
                    return ctx.loss.pulled(gradient, weights, ctx.constants), None, None
                scale = weights[:, None]
                return gradient.mul_(scale if ctx.scale is None else scale * ctx.scale), None, None
            # Someone differentiates twice, or goes back a second time.
            (logits,) = ctx.saved_tensors
            with torch.enable_grad():
                if not is_differentiated:
                    logits = logits.detach().requires_grad_()
                values, _ = ctx.loss.losses(logits, ctx.constants)
                (exact,) = torch.autograd.grad(
                    values, logits, weights, create_graph=is_differentiated
                )
            return exact, None, None

    return WithOwnGradient


def _is_transformed(torch: Any) -> bool:
    """Whether the call runs within `torch.func`, such as `vmap` or `grad`."""
    is_active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return is_active is not None and bool(is_active())


def _on_jax(loss: RowLoss, logits: Tensor, constants: Constants) -> Tensor:
    import jax

    @jax.custom_vjp
    def run(logits: Tensor, constants: Constants) -> Tensor:
        return _losses_on_jax(loss, logits, constants)[0]

    def forward(logits: Tensor, constants: Constants) -> tuple[Tensor, Any]:
        values, kept = _losses_on_jax(loss, logits, constants)
        return values, (logits, constants, kept)

    def backward(known: Any, weights: Tensor) -> tuple[Tensor, None]:
        logits, constants, kept = known
        return _weighted(loss, loss.gradient(logits, constants, kept), weights, constants), None

    run.defvjp(forward, backward)
    result: Tensor = run(logits, constants)
    return result


def _losses_on_jax(
    loss: RowLoss, logits: Tensor, constants: Constants
) -> tuple[Tensor, Sequence[Tensor]]:
    """The losses some rows at a time: XLA would write out each exponential of the whole batch."""
    import jax

    on_cpu = jax.default_backend() == "cpu"
    size = max(1, (_CHUNK if on_cpu else _CHUNK_OF_ACCELERATOR) // logits.shape[1])
    count = logits.shape[0]
    # A loop over rows that lie on several devices would gather them on each.
    if count <= size or keras.distribution.distribution() is not None:
        return loss.losses(logits, constants)
    number = -(-count // size)

    def rows(start: Any) -> tuple[Tensor, Sequence[Tensor]]:
        def take(values: Any) -> Any:
            if values is None or not values.shape:
                return values
            return jax.lax.dynamic_slice_in_dim(values, start, size)

        return loss.losses(take(logits), type(constants)(*map(take, constants)))

    # The last chunk begins early enough to be whole: a part of it is computed twice.
    starts = jax.numpy.minimum(jax.numpy.arange(number) * size, count - size)
    whole = (number - 1) * size

    def joined(values: Any) -> Any:
        if number * size == count:
            return values.reshape(count, *values.shape[2:])
        first = values[:-1].reshape(whole, *values.shape[2:])
        return jax.numpy.concatenate([first, values[-1, size - (count - whole) :]])

    values, kept = jax.lax.map(rows, starts)
    return joined(values), [joined(one) for one in kept]


def _both_on_jax(
    values: Callable[[Tensor, Constants], Tensor], logits: Tensor, constants: Constants
) -> tuple[Tensor, Sequence[Tensor]]:
    import jax

    found, pull = jax.vjp(lambda logits: values(logits, constants), logits)
    return found, pull(jax.numpy.ones_like(found))


def _both_on_torch(
    values: Callable[[Tensor, Constants], Tensor],
    logits: Tensor,
    constants: Constants,
    gradient: Tensor | None,
) -> tuple[Tensor, None]:
    import torch

    found = logits.new_empty(len(logits))
    for rows in chunks_of_rows(logits, _CHUNK_OF_MANY_CALLS):
        given, here = logits[rows].detach(), rows_of(constants, rows)
        if gradient is None:
            found[rows] = values(given, here)
            continue
        given.requires_grad_()
        with torch.enable_grad():
            of_rows = values(given, here)
            (gradient[rows],) = torch.autograd.grad(of_rows.sum(), given)
        found[rows] = of_rows.detach()
    return found, None


def _weighted(loss: RowLoss, gradient: Tensor, weights: Tensor, constants: Constants) -> Tensor:
    if loss.pulled is None:
        return weights[:, None] * gradient
    return loss.pulled(gradient, weights, constants)


def _on_tensorflow(loss: RowLoss, logits: Tensor, constants: Constants) -> Tensor:
    import tensorflow as tf

    losses, gradient = _functions_on_tensorflow(loss, is_compiled=_lacks_accelerator())
    # A function would be traced again for each variable.
    constants = type(constants)(
        *(None if one is None else tf.convert_to_tensor(one) for one in constants)
    )

    @tf.custom_gradient
    def run(logits: Tensor) -> Any:
        values, kept = losses(logits, constants)

        def backward(weights: Tensor) -> Tensor:
            return gradient(logits, constants, kept, weights)

        return values, backward

    result: Tensor = run(logits)
    return result


@functools.cache
def _functions_on_tensorflow(loss: RowLoss, is_compiled: bool) -> tuple[Any, Any]:
    """The losses, and the gradient of their weighted sum, each compiled by itself if need be."""
    import tensorflow as tf

    def gradient(logits: Tensor, constants: Constants, kept: Any, weights: Tensor) -> Tensor:
        return _weighted(loss, loss.gradient(logits, constants, kept), weights, constants)

    if not is_compiled:
        return loss.losses, gradient
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    return compiled(loss.losses), compiled(gradient)


def _is_compiled_on_tensorflow(logits: Tensor) -> bool:
    """Whether XLA fuses a function of rows; operation by operation the plain form is quicker.

    Keras has it compile steps on accelerators only, and never under `tf.distribute`. Without either
    the function is compiled alone, for each number of rows: batches differ in it, but if tokens do
    too, each batch might have one of its own.
    """
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return False
    return not _lacks_accelerator() or (None not in logits.shape[1:] and _has_compiler())


@functools.cache
def _lacks_accelerator() -> bool:
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_physical_devices())


@functools.cache
def _has_compiler() -> bool:
    """Whether this build of TensorFlow compiles for a CPU; not all do."""
    import tensorflow as tf

    with tf.init_scope():
        try:
            tf.function(tf.negative, jit_compile=True)(tf.zeros(()))
        except tf.errors.OpError:
            return False
    return True
