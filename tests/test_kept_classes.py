"""A few classes of each row, and all others as one: value and gradient as in float64."""

import keras
import numpy as np
import pytest
from gradients import compiled_value_and_gradient
from keras import ops

from keras_ats import _gradients
from keras_ats.ops.kept_classes import kept_and_others

ROWS, CLASSES, KEPT = 6, 40, 4
TEMPERATURE = 3.0


@pytest.fixture
def rows(rng):
    """Logits far from 0, ids, and weights of the values; more than one chunk of them."""
    logits = (50 + 3 * rng.normal(size=(2, ROWS // 2, CLASSES))).astype("float32")
    ids = np.argsort(rng.normal(size=logits.shape), axis=-1)[..., :KEPT].astype("int32")
    # The kept ones have all but e-20 of the probability.
    np.put_along_axis(logits[0], ids[0], logits.max() + 60, axis=-1)
    logits[1, 0, ids[1, 0, 0]] = logits[1, 0, ids[1, 1, 0]] = -np.inf
    others = np.ones(CLASSES, bool)
    others[ids[1, 2]] = False
    logits[1, 2, others] = -np.inf
    return logits, ids, rng.normal(size=(*ids.shape[:-1], KEPT + 1)).astype("float32")


def in_float64(logits, ids, weights):
    """Values, and the gradient of their weighted sum."""
    rest = logits.astype("float64") / TEMPERATURE
    np.put_along_axis(rest, ids, -np.inf, axis=-1)
    top = np.maximum(rest.max(axis=-1, keepdims=True), -1e30)
    powers = np.exp(rest - top)
    total = np.maximum(powers.sum(axis=-1, keepdims=True), 1e-300)
    is_there = np.isfinite(rest).any(axis=-1, keepdims=True)
    others = np.where(is_there, TEMPERATURE * (top + np.log(total)), -1e30)
    kept = np.take_along_axis(logits, ids, axis=-1)
    gradient = weights[..., -1:] * powers / total
    here = np.where(np.isfinite(kept), weights[..., :-1], 0.0)
    np.put_along_axis(gradient, ids, here, axis=-1)
    return np.concatenate([np.maximum(kept, -1e30), others], axis=-1), gradient


@pytest.mark.parametrize("least", [1, 10**9], ids=["own gradient", "plain form"])
def test_value_and_gradient(rows, least, monkeypatch):
    logits, ids, weights = rows
    monkeypatch.setattr(_gradients, "_WORTH_COMPILING", least)
    monkeypatch.setattr(_gradients, "_CHUNK", 4 * CLASSES)
    expected, expected_gradient = in_float64(logits, ids, weights)
    scale = np.where(expected > -1e20, weights, 0.0)
    found = []

    def weighted_sum(logits):
        values = kept_and_others(
            logits, ids, ops.convert_to_tensor(TEMPERATURE), is_learned=least > 1
        )
        found.append(values)
        return ops.sum(ops.where(expected > -1e20, ops.multiply(values, weights), 0.0))

    value, gradient = compiled_value_and_gradient(weighted_sum, logits)
    np.testing.assert_allclose(value, (expected * scale).sum(), rtol=2e-6)
    # As a share of what it is relative to, whatever its own size.
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-5, atol=1e-7)
    if keras.backend.backend() != "jax":
        values = ops.convert_to_numpy(ops.stop_gradient(found[0]))
        np.testing.assert_allclose(values, expected, rtol=1e-6)
