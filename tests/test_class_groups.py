"""Softmax by groups of classes, correlations and yes-or-no divergences, against NumPy."""

import keras
import numpy as np
import pytest
import reference
from gradients import value_and_gradient

from keras_ats import ops

CLASSES = 5
SHAPES = [(4,), (2, 3), ()]


def random_logits(rng, *shape):
    return rng.normal(0, 3, (*shape, CLASSES)).astype("float32")


class TestWrongClasses:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_is_the_softmax_without_the_label(self, rng, shape):
        logits, ids = random_logits(rng, *shape), rng.integers(CLASSES, size=shape)
        log_p = np.asarray(ops.wrong_class_log_softmax(logits, ids, 3.0))
        wrong = reference.label_distribution(ids, logits) == 0
        expected = reference.log_softmax(logits[wrong].reshape(*shape, CLASSES - 1), 3.0)
        np.testing.assert_allclose(log_p[wrong].reshape(expected.shape), expected, rtol=1e-5)
        np.testing.assert_array_equal(np.exp(log_p[~wrong]), 0)

    def test_a_sure_label_leaves_the_others_their_digits(self):
        log_p = ops.wrong_class_log_softmax(np.array([[1e4, 1.0, 0.0]], "float32"), [0])
        expected = reference.log_softmax([1.0, 0.0])
        np.testing.assert_allclose(np.asarray(log_p)[0, 1:], expected, rtol=1e-6)

    def test_a_single_wrong_class_is_certain(self, rng):
        log_p = np.asarray(ops.wrong_class_log_softmax(random_logits(rng, 4)[:, :2], [0, 0, 1, 1]))
        np.testing.assert_array_equal(log_p[[0, 1, 2, 3], [1, 1, 0, 0]], 0)

    def test_weights_count_a_class_in_part(self, rng):
        logits, weights = random_logits(rng, 4), rng.random((4, CLASSES)).astype("float32")
        p = weights * np.exp(logits.astype("float64") / 2)
        np.testing.assert_allclose(
            ops.weighted_log_softmax(logits, weights, 2.0),
            np.log(p / p.sum(axis=-1, keepdims=True)),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_no_class_at_all_has_no_probability(self, rng):
        log_p = ops.weighted_log_softmax(random_logits(rng, 1), np.zeros(CLASSES))
        np.testing.assert_array_equal(np.exp(np.asarray(log_p)), 0)


class TestCorrectAndWrong:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_are_the_label_and_all_the_rest(self, rng, shape):
        logits, ids = random_logits(rng, *shape), rng.integers(CLASSES, size=shape)
        p = reference.softmax(logits, 2.0)
        correct = (reference.label_distribution(ids, logits) * p).sum(axis=-1)
        np.testing.assert_allclose(
            ops.correct_wrong_log_softmax(logits, ids, 2.0),
            np.log(np.stack([correct, 1 - correct], axis=-1)),
            rtol=1e-4,
            atol=1e-6,
        )

    def test_a_sure_teacher_keeps_what_is_left_to_the_others(self):
        """`1 - p` is 0 in float32 here."""
        log_p = ops.correct_wrong_log_softmax(np.array([[80.0, 0.0, 0.0]], "float32"), [0])
        np.testing.assert_allclose(log_p, [[0, np.log(2) - 80]], rtol=1e-6)

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_gradients_are_finite(self, rng, scale):
        logits, ids = scale * random_logits(rng, 4), rng.integers(CLASSES, size=4)
        for function in (ops.correct_wrong_log_softmax, ops.wrong_class_log_softmax):

            def distance(x, function=function):
                return keras.ops.sum(ops.kl_divergence(function(-logits, ids), function(x, ids)))

            assert np.all(np.isfinite(value_and_gradient(distance, logits)[1]))


class TestCorrelation:
    @pytest.mark.parametrize("axis", [0, -1])
    def test_equals_that_of_numpy(self, rng, axis):
        x, y = rng.normal(size=(2, 6, CLASSES)).astype("float32")
        actual = np.asarray(ops.pearson_correlation(x, y, axis=axis))
        pairs = zip(*(np.moveaxis(side, axis, -1) for side in (x, y)), strict=True)
        np.testing.assert_allclose(actual, [np.corrcoef(a, b)[0, 1] for a, b in pairs], rtol=1e-5)

    def test_masked_entries_leave_it(self, rng):
        x, y = rng.normal(size=(2, 6, CLASSES)).astype("float32")
        mask = np.array([1, 0, 1, 1, 0, 1], bool)
        np.testing.assert_allclose(
            ops.pearson_correlation(x, y, axis=0, mask=mask[:, None]),
            ops.pearson_correlation(x[mask], y[mask], axis=0),
            rtol=1e-5,
        )

    def test_a_constant_has_none_and_no_gradient(self, rng):
        y = rng.normal(size=CLASSES).astype("float32")
        value, gradient = value_and_gradient(
            lambda x: ops.pearson_correlation(x, y * 0), np.ones(CLASSES, "float32")
        )
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


def test_bernoulli_divergence_equals_that_of_two_classes(rng):
    target, logits = random_logits(rng, 4), random_logits(rng, 4)
    log_p, log_q = (
        reference.log_softmax(np.stack([side, np.zeros_like(side)], axis=-1))
        for side in (target, logits)
    )
    np.testing.assert_allclose(
        ops.bernoulli_kl_divergence(target, logits),
        reference.kl(log_p, log_q).sum(axis=-1),
        rtol=1e-5,
    )
