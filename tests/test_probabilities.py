"""Logits back from probabilities."""

import numpy as np
from keras import ops

import keras_ats


def test_bernoulli_logits_invert_the_sigmoid(rng):
    logits = rng.normal(0, 4, (5, 3))
    probabilities = 1 / (1 + np.exp(-logits))
    recovered = ops.convert_to_numpy(keras_ats.ops.bernoulli_logits(probabilities))
    assert recovered.dtype == np.float32
    np.testing.assert_allclose(recovered, logits, rtol=1e-4, atol=1e-5)


def test_bernoulli_logits_are_finite_and_ordered_at_the_ends():
    probabilities = np.array([0.0, 1e-30, 0.5, 1 - 2**-24, 1.0], "float32")
    recovered = ops.convert_to_numpy(keras_ats.ops.bernoulli_logits(probabilities))
    assert np.isfinite(recovered).all()
    assert (np.diff(recovered) > 0).all()
    np.testing.assert_allclose(recovered[[0, -1]], [-126 * np.log(2), 126 * np.log(2)], rtol=1e-6)
