"""The tensor functions, on examples chosen by hand."""

import keras
import numpy as np
import pytest
import reference
from gradients import value_and_gradient

from keras_ats import ops

HALF = ["float16", "bfloat16"]
SHAPES = [(4,), (2, 3), ()]
EXTREMES = np.array([[1e4, -1e4, 0, 1], [-1e4, 1e4, 9999, 0], [1e4, 1e4, 1e4, 1e4]], "float32")


def random_logits(rng, *shape):
    return rng.normal(0, 3, shape).astype("float32")


class TestLabels:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
    def test_ids_become_one_hot_rows(self, rng, shape, dtype):
        ids, logits = rng.integers(5, size=shape), np.zeros((*shape, 5))
        expected = np.eye(5)[ids]
        np.testing.assert_array_equal(ops.label_distribution(ids.astype(dtype), logits), expected)
        with_axis = ids[..., None].astype(dtype)
        np.testing.assert_array_equal(ops.label_distribution(with_axis, logits), expected)

    def test_rows_stay_as_they_are(self, rng):
        rows = rng.dirichlet(np.ones(5), size=4).astype("float32")
        np.testing.assert_array_equal(ops.label_distribution(rows, np.zeros((4, 5))), rows)

    def test_as_many_ids_as_classes_are_still_ids(self):
        np.testing.assert_array_equal(
            ops.label_distribution([1, 0, 2], np.zeros((3, 3))), np.eye(3)[[1, 0, 2]]
        )

    @pytest.mark.parametrize("ignored", [-1, -100, 5, 255])
    def test_an_id_out_of_range_becomes_a_row_of_zeros(self, ignored):
        distribution = ops.label_distribution([ignored, 4], np.zeros((2, 5)))
        np.testing.assert_array_equal(distribution, [np.zeros(5), np.eye(5)[4]])

    @pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 6), (2, 2), (4, 5, 1)])
    def test_labels_that_do_not_fit_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"Labels of shape .* do not fit logits of shape"):
            ops.label_distribution(np.zeros(shape), np.zeros((4, 5)))

    def test_a_batch_size_known_only_later_is_no_obstacle(self):
        logits = keras.KerasTensor((None, 5))
        assert ops.are_class_ids(keras.KerasTensor((None,)), logits)
        assert ops.are_class_ids(keras.KerasTensor((None, 1)), logits)
        assert not ops.are_class_ids(keras.KerasTensor((None, 5)), logits)

    def test_class_ids_above_256_survive_bfloat16_logits(self):
        """bfloat16 has 8 bits for digits: it would turn class 257 into 256."""
        logits = keras.ops.zeros((1, 300), dtype="bfloat16")
        distribution = ops.label_distribution([257], logits)
        np.testing.assert_array_equal(distribution, np.eye(300)[[257]])
        temperature = ops.asymmetric_temperature([257], logits, 4.0, 2.0)
        np.testing.assert_array_equal(np.asarray(temperature) == 4, np.eye(300)[[257]] == 1)


class TestSoftmax:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_any_leading_axes(self, rng, shape):
        logits, ids = random_logits(rng, *shape, 5), rng.integers(5, size=shape)
        np.testing.assert_allclose(
            ops.temperature_softmax(logits, 3.0), reference.softmax(logits, 3.0), rtol=1e-5
        )
        np.testing.assert_allclose(
            ops.asymmetric_softmax(logits, ids, 4.0, 2.0),
            reference.asymmetric_softmax(logits, ids, 4.0, 2.0),
            rtol=1e-5,
        )

    @pytest.mark.parametrize("shape", [(), (4, 1), (4, 5)])
    def test_temperature_of_all_of_each_sample_or_of_each_class(self, rng, shape):
        logits, temperature = random_logits(rng, 4, 5), rng.uniform(0.5, 5, shape)
        np.testing.assert_allclose(
            ops.temperature_log_softmax(logits, temperature),
            reference.log_softmax(logits, temperature),
            rtol=1e-5,
            atol=1e-6,
        )

    def test_correct_and_wrong_temperature_of_each_sample(self, rng):
        correct, wrong = rng.uniform(0.5, 5, (2, 4, 1))
        logits, ids = random_logits(rng, 4, 5), rng.integers(5, size=4)
        np.testing.assert_allclose(
            ops.asymmetric_log_softmax(logits, ids, correct, wrong),
            reference.asymmetric_log_softmax(logits, ids, correct, wrong),
            rtol=1e-5,
            atol=1e-6,
        )

    def test_soft_labels_mix_the_temperatures(self):
        np.testing.assert_allclose(
            ops.asymmetric_temperature([[0.5, 0.25, 0.25, 0]], np.zeros((1, 4)), 4.0, 2.0),
            [[3, 2.5, 2.5, 2]],
        )

    def test_an_ignored_label_takes_the_wrong_temperature_everywhere(self, rng):
        logits = random_logits(rng, 1, 5)
        np.testing.assert_allclose(
            ops.asymmetric_softmax(logits, [-1], 4.0, 2.0),
            reference.softmax(logits, 2.0),
            rtol=1e-5,
        )

    @pytest.mark.parametrize("dtype", [*HALF, "float64"])
    def test_results_are_float32(self, rng, dtype):
        logits = random_logits(rng, 4, 5)
        # JAX holds no float64 unless told to, and warns when asked for one: NumPy asks nothing.
        logits = logits.astype(dtype) if dtype == "float64" else keras.ops.cast(logits, dtype)
        log_probabilities = ops.asymmetric_log_softmax(logits, [0, 1, 2, 3], 4.0, 2.0)
        assert keras.backend.standardize_dtype(log_probabilities.dtype) == "float32"
        exact = keras.ops.convert_to_numpy(logits).astype("float64")
        expected = reference.asymmetric_log_softmax(exact, [0, 1, 2, 3], 4.0, 2.0)
        np.testing.assert_allclose(log_probabilities, expected, rtol=1e-5, atol=1e-6)


class TestExtremeLogits:
    @pytest.mark.parametrize("temperature", [0.05, 1.0, 100.0])
    @pytest.mark.parametrize("dtype", ["float32", *HALF])
    @pytest.mark.parametrize("divergence", [ops.cross_entropy, ops.kl_divergence])
    def test_finite_values_and_gradients(self, divergence, dtype, temperature):
        teacher = keras.ops.cast(EXTREMES[::-1].copy(), dtype)
        log_p = ops.asymmetric_log_softmax(teacher, [0, 2, 3], temperature, 1.0)

        def distance(student):
            return keras.ops.sum(
                divergence(log_p, ops.temperature_log_softmax(student, temperature))
            )

        value, gradient = value_and_gradient(distance, keras.ops.cast(EXTREMES, dtype))
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient.astype("float32")))

    def test_the_largest_float16_values_are_still_told_apart(self):
        largest = keras.ops.cast(np.array([[65504, 0, -65504]]), "float16")
        np.testing.assert_allclose(
            ops.temperature_softmax(largest, 65504.0)[0, 0], 0.665, atol=1e-3
        )
        np.testing.assert_array_equal(ops.temperature_softmax(largest, 0.05), [[1, 0, 0]])


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        (ops.cross_entropy, reference.cross_entropy),
        (ops.kl_divergence, reference.kl),
        (ops.reverse_kl_divergence, reference.reverse_kl),
    ],
)
class TestDivergences:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_any_leading_axes(self, rng, shape, divergence, expected):
        log_p, log_q = reference.log_softmax(random_logits(rng, 2, *shape, 5)).astype("float32")
        actual = divergence(*map(keras.ops.convert_to_tensor, (log_p, log_q)))
        np.testing.assert_allclose(actual, expected(log_p, log_q), rtol=1e-5)

    @pytest.mark.parametrize("dtype", HALF)
    def test_results_are_float32(self, rng, dtype, divergence, expected):
        both = keras.ops.cast(reference.log_softmax(random_logits(rng, 2, 4, 5)), dtype)
        actual = divergence(both[0], both[1])
        assert keras.backend.standardize_dtype(actual.dtype) == "float32"
        exact = keras.ops.convert_to_numpy(both).astype("float64")
        np.testing.assert_allclose(actual, expected(*exact), rtol=1e-5)


class TestWrongClasses:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_any_leading_axes(self, rng, shape):
        logits, ids = random_logits(rng, *shape, 5), rng.integers(5, size=shape)
        p = reference.softmax(logits).astype("float32")
        for name, arguments in {
            "derived_average": (p, ids),
            "derived_variance": (p, ids),
            "inherent_variance": (logits, ids, 2.0),
        }.items():
            np.testing.assert_allclose(
                getattr(ops, name)(*arguments), getattr(reference, name)(*arguments), rtol=1e-4
            )

    def test_average_keeps_its_digits_where_the_teacher_is_all_but_certain(self):
        """In float32, `1 - p_y` is 0 here."""
        logits = np.array([[25.0, 1.0, 0.0, -1.0]], "float32")
        p = ops.temperature_softmax(logits)
        assert 1 - np.asarray(p)[0, 0] == 0
        expected = reference.derived_average(reference.softmax(logits), [0])
        np.testing.assert_allclose(ops.derived_average(p, [0]), expected, rtol=1e-5)

    @pytest.mark.parametrize("confidence", [1e4, -1e4])
    def test_inherent_variance_does_not_see_the_correct_class(self, confidence):
        logits = np.array([[confidence, 1, 0, -1]], "float32")
        expected = reference.inherent_variance([[0, 1, 0, -1]], [0])
        np.testing.assert_allclose(ops.inherent_variance(logits, [0]), expected, rtol=1e-5)

    def test_two_classes_have_no_variance(self):
        p, logits = np.array([[0.3, 0.7]]), np.array([[5.0, -2.0]])
        np.testing.assert_array_equal(ops.derived_variance(p, [1]), [0])
        np.testing.assert_array_equal(ops.inherent_variance(logits, [1]), [0])

    def test_soft_labels_weigh_the_wrong_classes(self):
        p, labels = np.array([[0.6, 0.3, 0.1]]), np.array([[0.5, 0.5, 0.0]])
        average = (0.5 * 0.6 + 0.5 * 0.3 + 0.1) / 2
        squares = 0.5 * (0.6 - average) ** 2 + 0.5 * (0.3 - average) ** 2 + (0.1 - average) ** 2
        np.testing.assert_allclose(ops.derived_average(p, labels), [average], rtol=1e-6)
        np.testing.assert_allclose(ops.derived_variance(p, labels), [squares / 2], rtol=1e-5)

    def test_variances_of_soft_labels_obey_the_same_identity(self):
        logits, labels = np.array([[2.0, 1.0, 0.0]]), np.array([[0.5, 0.5, 0.0]])
        p = ops.temperature_softmax(logits)
        average = np.asarray(ops.derived_average(p, labels))
        np.testing.assert_allclose(
            ops.derived_variance(p, labels),
            4 * average**2 * np.asarray(ops.inherent_variance(logits, labels)),
            rtol=1e-5,
        )

    def test_parts_of_kd(self, rng):
        p = reference.softmax(random_logits(rng, 2, 3, 5))
        log_q, ids = (
            reference.log_softmax(random_logits(rng, 2, 3, 5)),
            rng.integers(5, size=(2, 3)),
        )
        parts = ops.decompose_kd(p, log_q, ids)
        assert parts._fields == (
            "correct_guidance",
            "smooth_regularization",
            "class_discriminability",
        )
        for part, expected in zip(parts, reference.decomposition(p, log_q, ids), strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-6)

    def test_parts_of_kd_with_soft_labels_sum_to_the_cross_entropy(self, rng):
        p, labels = rng.dirichlet(np.ones(5), size=(2, 4))
        log_q = reference.log_softmax(random_logits(rng, 4, 5))
        np.testing.assert_allclose(
            sum(ops.decompose_kd(p, log_q, labels)),
            reference.cross_entropy(np.log(p), log_q),
            rtol=1e-5,
        )


class TestLogitsFromProbabilities:
    def test_zero_mean_logits_come_back(self, rng):
        logits = random_logits(rng, 2, 3, 5)
        logits -= logits.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(
            ops.centered_log_probabilities(reference.softmax(logits)), logits, atol=1e-5
        )

    def test_probabilities_rounded_to_zero_are_finite_and_lowest(self):
        logits = np.asarray(ops.centered_log_probabilities(np.array([[1.0, 0.0, 1e-30]])))
        assert np.all(np.isfinite(logits))
        np.testing.assert_allclose(logits.sum(), 0, atol=1e-4)
        np.testing.assert_array_equal(np.argsort(logits[0]), [1, 2, 0])

    def test_only_logits_let_ats_tame_an_over_confident_teacher(self, rng):
        """Log-probabilities all but switch ATS off; centring them brings most of it back."""
        wrong_logits = rng.normal(0, 0.4, 9)
        logits = np.concatenate([[18], wrong_logits - wrong_logits.mean()])[None]

        def correct_probability(values):
            return np.asarray(ops.asymmetric_softmax(values, [0], 4.0, 2.0))[0, 0]

        assert correct_probability(logits) == pytest.approx(0.907, abs=2e-3)
        log_probabilities = ops.temperature_log_softmax(logits)
        assert correct_probability(log_probabilities) == pytest.approx(0.9989, abs=2e-4)
        centered = ops.centered_log_probabilities(ops.temperature_softmax(logits))
        assert correct_probability(centered) == pytest.approx(0.938, abs=2e-3)
