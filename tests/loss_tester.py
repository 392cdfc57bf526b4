"""What every distillation loss must do, whatever it computes.

A new loss needs one more `LossCase` in the list of `test_losses.py`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from backends import cases_in_turn
from gradients import value_and_gradient

from keras_ats.losses import KDLoss

CLASSES = 5
SAMPLES = (4,)
TOKENS = (2, 3)  # Two samples of three tokens each.
LABEL_OF_PADDING = -100
# Values are compared on every backend, loss by loss.
shared = cases_in_turn("all losses do this by the code of their base class")
REDUCTIONS = ["none", "sum", "sum_over_batch_size", "mean_with_sample_weight"]


@dataclass(frozen=True)
class LossCase:
    """How to make a loss, and what is known of it.

    Args:
        name: Shown in the names of its tests.
        create: Makes the loss; takes `reduction` and `name`. Must make its parts anew as well:
            tests change their variables.
        reference: From student logits, teacher logits and ids, in float64, the value of each
            position and the gradient of its own value in the student's logits.
        independent: Whether a position's value depends on no other position.
    """

    name: str
    create: Callable[..., KDLoss]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    independent: bool = True


class Batch(NamedTuple):
    """The positional arguments of a loss."""

    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray

    def take(self, positions: list[int]) -> "Batch":
        return Batch(*(values[positions] for values in self))


def random_batch(shape: tuple[int, ...] = SAMPLES, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 3, (2, *shape, CLASSES)).astype("float32")
    return Batch(student, teacher, rng.integers(CLASSES, size=shape))


def random_weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.5, 2, shape).astype("float32")


def padded(batch: Batch, filler: float) -> tuple[Batch, np.ndarray]:
    """The batch of tokens with a sample and many tokens of garbage, and the mask that tells."""

    def pad(values, constant):
        widths = [(0, 1), (0, 20), (0, 0)][: values.ndim]
        return np.pad(values, widths, constant_values=constant)

    mask = pad(np.ones(batch.labels.shape, bool), False)
    logits = pad(batch.student, filler), pad(batch.teacher, filler)
    return Batch(*logits, pad(batch.labels, LABEL_OF_PADDING)), mask


def student_gradient(
    loss: KDLoss, batch: Batch, sample_weight: Any = None, mask: Any = None
) -> tuple[float, np.ndarray]:
    """The value of a batch and its gradient in the student's logits."""
    _, teacher, labels = batch
    return value_and_gradient(
        lambda student: keras.ops.sum(
            loss(student, teacher, labels=labels, sample_weight=sample_weight, mask=mask)
        ),
        batch.student,
    )


def of_batch(loss: Callable[..., Any], batch: Batch, sample_weight: Any = None, mask: Any = None):
    """The loss of a batch, with labels and what follows by keyword."""
    student, teacher, labels = batch
    return loss(student, teacher, labels=labels, sample_weight=sample_weight, mask=mask)


def compiled(loss: KDLoss) -> Callable[..., Any]:
    """The loss of a batch as a training step runs it: traced once, variables handed in."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda *batch: of_batch(loss, Batch(*batch)))
    if keras.backend.backend() == "torch":
        return lambda *batch: of_batch(loss, Batch(*batch))
    import jax

    @jax.jit
    def run(values, batch):
        with keras.StatelessScope(state_mapping=list(zip(loss.variables, values, strict=True))):
            return of_batch(loss, Batch(*batch))

    return lambda *batch: run([variable.value for variable in loss.variables], batch)


def as_array(values: Any) -> np.ndarray:
    """Also for a tensor of torch that carries a gradient, as learned temperatures give."""
    return keras.ops.convert_to_numpy(values)


def assert_close(actual: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(as_array(actual), as_array(expected), rtol=rtol, atol=atol)


class LossTester:
    """Subclass it as `Test...` under `@each_loss([...])`."""

    @pytest.mark.parametrize("shape", [SAMPLES, TOKENS])
    def test_values_and_gradients_equal_the_reference(self, case, shape):
        if case.reference is None:
            pytest.skip("no reference given")
        batch = random_batch(shape)
        expected, slopes = case.reference(*batch)
        assert_close(of_batch(case.create(reduction="none"), batch), expected, rtol=1e-4)
        value, gradient = student_gradient(case.create(), batch)
        assert_close(value, expected.mean(), rtol=1e-4)
        assert_close(gradient, slopes / expected.size, rtol=1e-4)

    @shared
    def test_reductions(self, case):
        batch, weights = random_batch(TOKENS), random_weights(TOKENS)
        values, weighted, total, mean, weighted_mean = (
            as_array(of_batch(case.create(reduction=reduction), batch, sample_weight))
            for reduction, sample_weight in [("none", None), *((r, weights) for r in REDUCTIONS)]
        )
        assert values.shape == TOKENS
        assert_close(weighted, weights * values)
        assert_close(total, weighted.sum())
        assert_close(mean, weighted.mean())
        assert_close(weighted_mean, weighted.sum() / weights.sum())

    @shared
    @pytest.mark.parametrize("weights_shape", [(2,), (2, 1)])
    def test_a_sample_weight_covers_all_tokens_of_the_sample(self, case, weights_shape):
        batch, weights = random_batch(TOKENS), random_weights(weights_shape)
        loss = case.create(reduction="mean_with_sample_weight")
        of_tokens = np.broadcast_to(weights.reshape(2, 1), TOKENS)
        assert_close(of_batch(loss, batch, weights), of_batch(loss, batch, of_tokens))

    @shared
    def test_a_weight_of_zero_removes_a_sample(self, case):
        if not case.independent:
            pytest.skip("its samples are compared with one another")
        batch, other = random_batch(), random_batch(seed=1)
        changed = Batch(
            *(np.concatenate([a[:1], b[1:]]) for a, b in zip(other, batch, strict=True))
        )
        weights = np.array([0, 1, 0.5, 2], "float32")
        for reduction in REDUCTIONS[1:]:
            loss = case.create(reduction=reduction)
            value, gradient = student_gradient(loss, batch, weights)
            assert_close(value, of_batch(loss, changed, weights))
            np.testing.assert_array_equal(gradient[0], 0)
        # The last reduction divides by the sum of the weights, so the sample is gone altogether.
        assert_close(value, of_batch(loss, batch.take([1, 2, 3]), weights[1:]))

    @shared
    @pytest.mark.parametrize(
        ("reduction", "filler"), list(zip(REDUCTIONS[1:], [np.nan, 1e30, np.nan], strict=True))
    )
    def test_padding_changes_nothing(self, case, reduction, filler):
        batch, weights = random_batch(TOKENS), random_weights(TOKENS)
        loss = case.create(reduction=reduction)
        value, gradient = student_gradient(loss, batch, weights)
        long_batch, mask = padded(batch, filler)
        long_weights = np.ones(mask.shape, "float32")
        long_weights[mask] = weights.ravel()
        long_value, long_gradient = student_gradient(loss, long_batch, long_weights, mask)
        assert_close(long_value, value)
        assert_close(long_gradient[mask], gradient.reshape(-1, CLASSES))
        np.testing.assert_array_equal(long_gradient[~mask], 0)

    @shared
    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_a_batch_of_nothing_but_padding_is_zero(self, case, reduction):
        batch, mask = padded(random_batch(TOKENS), filler=np.nan)
        value, gradient = student_gradient(
            case.create(reduction=reduction), batch, mask=np.zeros_like(mask)
        )
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)

    @shared
    def test_all_forms_of_hard_labels_agree(self, case):
        loss, batch = case.create(), random_batch(TOKENS)
        expected, ids = of_batch(loss, batch), batch.labels
        for labels in (ids[..., None], ids.astype("float32"), np.eye(CLASSES)[ids]):
            assert_close(of_batch(loss, batch._replace(labels=labels)), expected)

    @shared
    def test_the_teacher_gets_no_gradient(self, case):
        loss, (student, teacher, labels) = case.create(), random_batch()
        _, gradient = value_and_gradient(
            lambda both: loss(both[0], both[1], labels=labels), np.stack([student, teacher])
        )
        assert np.any(gradient[0] != 0)
        np.testing.assert_array_equal(gradient[1], 0)

    def test_all_arguments_are_keywords(self, case):
        batch, weights = random_batch(), random_weights(SAMPLES)
        mask = np.array([True, True, False, True])
        loss = case.create()
        by_keyword = loss(
            mask=mask,
            sample_weight=weights,
            labels=batch.labels,
            teacher_logits=batch.teacher,
            student_logits=batch.student,
        )
        assert_close(by_keyword, of_batch(loss, batch, weights, mask))

    @shared
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_float32_inside_whatever_the_models_use(self, case, dtype):
        batch, loss = random_batch(), case.create()
        # JAX holds no float64 unless told to, and warns when asked for one: NumPy asks nothing.
        student, teacher = (
            logits.astype(dtype) if dtype == "float64" else keras.ops.cast(logits, dtype)
            for logits in batch[:2]
        )
        exact = [
            keras.ops.convert_to_numpy(logits).astype("float32") for logits in (student, teacher)
        ]
        value = loss(student, teacher, labels=batch.labels)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert_close(value, loss(*exact, labels=batch.labels))

        _, gradient = student_gradient(loss, batch._replace(student=student, teacher=teacher))
        _, expected = student_gradient(loss, Batch(*exact, batch.labels))
        assert_close(gradient.astype("float32"), expected, rtol=1e-2, atol=1e-3)

    def test_config_holds_every_argument(self, case):
        arguments = set(inspect.signature(type(case.create())).parameters)
        assert set(case.create().get_config()) >= arguments - {"options"}

    def test_config_round_trip_keeps_changed_variables(self, case):
        loss, batch = case.create(reduction="sum", name="renamed"), random_batch()
        change_variables(loss)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert type(copy) is type(loss)
        assert copy.get_config() == loss.get_config()
        assert copy.name == "renamed"
        assert_close(of_batch(copy, batch), of_batch(loss, batch), rtol=0, atol=0)

    @shared
    def test_a_compiled_step_obeys_changed_variables(self, case):
        loss, batch = case.create(), random_batch()
        if not loss.variables:
            pytest.skip("it has no variables")
        step = compiled(loss)
        before = as_array(step(*batch))
        change_variables(loss)
        after = as_array(step(*batch))
        assert_close(after, of_batch(loss, batch))
        assert abs(after - before) > 1e-3

    @pytest.mark.parametrize("teacher_shape", [(4, CLASSES + 1), (3, CLASSES), (4, 1, CLASSES)])
    def test_logits_of_different_shapes_are_refused(self, case, teacher_shape):
        student, _, labels = random_batch()
        with pytest.raises(ValueError, match="must have the same shape") as error:
            case.create()(student, np.zeros(teacher_shape), labels=labels)
        assert str(student.shape) in str(error.value)
        assert str(teacher_shape) in str(error.value)

    def test_too_few_classes_are_refused(self, case):
        loss = case.create()
        logits = np.zeros((4, loss.min_classes - 1))
        with pytest.raises(ValueError, match="at least"):
            loss(logits, logits, labels=np.zeros(4, int))

    def test_missing_labels(self, case):
        loss, (student, teacher, labels) = case.create(), random_batch()
        if loss.needs.labels:
            with pytest.raises(ValueError, match="needs labels"):
                loss(student, teacher)
        else:
            assert_close(loss(student, teacher), loss(student, teacher, labels=labels))

    @pytest.mark.parametrize("mask_shape", [(2,), (2, 3, CLASSES)])
    def test_a_mask_of_another_rank_is_refused(self, case, mask_shape):
        with pytest.raises(ValueError, match="one value per position"):
            of_batch(case.create(), random_batch(TOKENS), mask=np.ones(mask_shape, bool))


def each_loss(cases: list[LossCase]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def change_variables(loss: KDLoss) -> None:
    for variable in loss.variables:
        variable.assign(1.5 * keras.ops.convert_to_numpy(variable))
