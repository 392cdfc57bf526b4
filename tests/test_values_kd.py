"""Distillation of values, and of values with their uncertainty, against NumPy in float64."""

import keras
import numpy as np
import pytest
from backends import cases_in_turn
from gradients import value_and_gradient

from keras_ats import losses

pytestmark = cases_in_turn(
    "each case is a value against a reference, whose arithmetic the backends share"
)

SAMPLES, VALUES = 6, 3


def heads(rng, values=VALUES):
    return rng.normal(0, 2, (2, SAMPLES, values)).astype("float32")


def squared(error):
    return error**2, 2 * error


def absolute(error):
    return np.abs(error), np.sign(error)


def huber(error, threshold=1.0):
    small = np.abs(error) <= threshold
    linear = threshold * np.abs(error) - threshold**2 / 2
    return np.where(small, error**2 / 2, linear), np.clip(error, -threshold, threshold)


def gaussian(student, teacher):
    """Value of each sample and its slopes in the student's means and log variances."""
    (mean, log_variance), (teacher_mean, teacher_log_variance) = (
        np.split(side.astype("float64"), 2, axis=-1) for side in (student, teacher)
    )
    deviation, teacher_deviation = np.exp(log_variance / 2), np.exp(teacher_log_variance / 2)
    difference = mean - teacher_mean
    ratio = (teacher_deviation**2 + difference**2) / deviation**2
    values = np.log(deviation / teacher_deviation) + ratio / 2 - 0.5
    slopes = np.concatenate([difference / deviation**2, 0.5 - ratio / 2], axis=-1)
    return values.sum(axis=-1), slopes


class TestRegressionKD:
    @pytest.mark.parametrize("values", [1, VALUES])
    @pytest.mark.parametrize(
        ("difference", "expected"), [("squared", squared), ("absolute", absolute), ("huber", huber)]
    )
    def test_equals_the_formula(self, rng, difference, expected, values):
        student, teacher = heads(rng, values)
        value, slopes = expected(student.astype("float64") - teacher)
        loss = losses.RegressionKD(difference)
        actual, gradient = value_and_gradient(lambda z: loss(z, teacher), student)
        assert actual == pytest.approx(value.mean(), rel=1e-5)
        np.testing.assert_allclose(gradient, slopes / student.size, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("threshold", [0.3, 5.0])
    def test_huber_is_that_of_keras(self, rng, threshold):
        student, teacher = heads(rng)
        loss = losses.RegressionKD("huber", threshold=threshold)
        expected = keras.losses.Huber(delta=threshold)(teacher, student)
        np.testing.assert_allclose(loss(student, teacher), expected, rtol=1e-5)

    def test_squared_is_logit_mse(self, rng):
        student, teacher = heads(rng)
        np.testing.assert_allclose(
            losses.RegressionKD()(student, teacher), losses.LogitMSE()(student, teacher), rtol=1e-6
        )

    def test_where_they_agree_the_gradient_is_zero(self, rng):
        student, _ = heads(rng)
        for difference in ("squared", "absolute", "huber"):
            loss = losses.RegressionKD(difference)
            value, gradient = value_and_gradient(lambda z, loss=loss: loss(z, student), student)
            assert value == 0
            np.testing.assert_array_equal(gradient, 0)

    def test_wrong_arguments_are_refused(self):
        with pytest.raises(ValueError, match=r"one of \['squared', 'absolute', 'huber'\]"):
            losses.RegressionKD("l2")
        with pytest.raises(ValueError, match="`threshold` must be a finite number above 0"):
            losses.RegressionKD("huber", threshold=0)


class TestGaussianKD:
    @pytest.mark.parametrize("values", [1, VALUES])
    def test_equals_the_formula(self, rng, values):
        student, teacher = heads(rng, 2 * values)
        value, slopes = gaussian(student, teacher)
        loss = losses.GaussianKD()
        actual, gradient = value_and_gradient(lambda z: loss(z, teacher), student)
        assert actual == pytest.approx(value.mean(), rel=1e-5)
        np.testing.assert_allclose(gradient, slopes / SAMPLES, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            losses.GaussianKD(reduction="none")(student, teacher), value, rtol=1e-4
        )

    def test_equals_the_divergence_by_sampling(self, rng):
        """An independent check: the mean of log p - log q over draws of the teacher."""
        student, teacher = np.array([[0.5, 0.4]], "float32"), np.array([[1.0, -0.3]], "float32")
        draws = rng.normal(1.0, np.exp(-0.15), 400_000)

        def log_density(values, mean, log_variance):
            return -0.5 * (np.log(2 * np.pi) + log_variance) - (values - mean) ** 2 / (
                2 * np.exp(log_variance)
            )

        ratio = log_density(draws, 1.0, -0.3) - log_density(draws, 0.5, 0.4)
        assert float(losses.GaussianKD()(student, teacher)) == pytest.approx(ratio.mean(), abs=5e-3)

    def test_keeps_its_digits_where_variances_are_nearly_alike(self):
        student, teacher = np.array([[0.0, 1e-3]], "float32"), np.zeros((1, 2), "float32")
        value, _ = gaussian(student, teacher)
        np.testing.assert_allclose(losses.GaussianKD()(student, teacher), value[0], rtol=1e-3)

    def test_a_student_who_agrees_has_no_loss(self, rng):
        student, _ = heads(rng, 4)
        value, gradient = value_and_gradient(lambda z: losses.GaussianKD()(z, student), student)
        assert value == 0
        np.testing.assert_allclose(gradient, 0, atol=1e-7)

    @pytest.mark.parametrize("size", [1, 3])
    def test_a_variance_for_each_mean(self, rng, size):
        student, teacher = heads(rng, size)
        with pytest.raises(ValueError, match=r"even size, n means and then n log variances"):
            losses.GaussianKD()(student, teacher)

    def test_mask_weights_and_padding(self, rng):
        student, teacher = heads(rng, 4)
        weights, mask = rng.uniform(0.5, 2, SAMPLES).astype("float32"), np.arange(SAMPLES) < 4
        values, _ = gaussian(student, teacher)
        student[~mask] = np.nan
        loss = losses.GaussianKD(reduction="sum")
        value, gradient = value_and_gradient(
            lambda z: loss(z, teacher, sample_weight=weights, mask=mask), student
        )
        assert value == pytest.approx((values * weights)[mask].sum(), rel=1e-5)
        np.testing.assert_array_equal(gradient[~mask], 0)

    def test_config_round_trip(self, rng):
        loss, (student, teacher) = losses.GaussianKD(reduction="sum", name="mine"), heads(rng, 4)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert copy.get_config() == loss.get_config()
        np.testing.assert_array_equal(copy(student, teacher), loss(student, teacher))
