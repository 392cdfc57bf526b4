"""What must hold for any logits, labels and temperatures."""

import keras
import numpy as np
import reference
from gradients import value_and_gradient
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_ats import ops

BATCH = 3  # Fixed, and few class counts: each new shape costs a compilation.
CLASSES = st.sampled_from([2, 3, 10])
TEMPERATURES = st.floats(0.0625, 100, width=32)
MODERATE = st.floats(0.5, 8, width=32)


@st.composite
def logits_and_ids(draw, largest=20.0):
    classes = draw(CLASSES)
    values = st.floats(-largest, largest, width=32)
    logits = draw(arrays("float32", (BATCH, classes), elements=values))
    ids = draw(arrays("int32", (BATCH,), elements=st.integers(0, classes - 1)))
    return logits, ids


@st.composite
def two_logits_and_ids(draw):
    logits, ids = draw(logits_and_ids())
    values = st.floats(-20, 20, width=32)
    return logits, draw(arrays("float32", logits.shape, elements=values)), ids


@given(logits_and_ids(largest=1e4), TEMPERATURES, TEMPERATURES)
def test_log_probabilities_equal_those_in_float64(inputs, correct, wrong):
    logits, ids = inputs
    log_p = np.asarray(ops.asymmetric_log_softmax(logits, ids, correct, wrong))
    expected = reference.asymmetric_log_softmax(logits, ids, correct, wrong)
    largest = np.max(np.abs(logits)) / min(correct, wrong)
    np.testing.assert_allclose(log_p, expected, rtol=0, atol=1e-6 * (largest + 10))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1, rtol=1e-5)


@given(logits_and_ids(), TEMPERATURES)
def test_equal_temperatures_are_one_temperature(inputs, temperature):
    logits, ids = inputs
    np.testing.assert_allclose(
        ops.asymmetric_softmax(logits, ids, temperature, temperature),
        ops.temperature_softmax(logits, temperature),
        rtol=1e-5,
        atol=1e-30,
    )


@given(logits_and_ids(), MODERATE, st.integers(-20, 20))
def test_one_temperature_is_blind_to_a_shift_of_the_logits(inputs, temperature, shift):
    logits, ids = inputs
    logits = np.round(logits)  # Whole numbers, so that the shift loses no digits.
    np.testing.assert_allclose(
        ops.temperature_softmax(logits + shift, temperature),
        ops.temperature_softmax(logits, temperature),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        ops.inherent_variance(logits + shift, ids, temperature),
        ops.inherent_variance(logits, ids, temperature),
        rtol=1e-4,
        atol=1e-7,
    )


@given(logits_and_ids(), MODERATE, MODERATE, st.integers(-20, 20))
def test_two_temperatures_are_not(inputs, correct, wrong, shift):
    """Shifting the logits by a multiplies the odds of the label by exp(a (1/t1 - 1/t2))."""
    logits, ids = inputs
    logits = np.round(logits)

    def log_odds(values):
        log_p = np.asarray(ops.asymmetric_log_softmax(values, ids, correct, wrong))
        label = reference.label_distribution(ids, logits) == 1
        others = np.where(label, -np.inf, log_p)
        return log_p[label] - np.logaddexp.reduce(others, axis=-1)

    np.testing.assert_allclose(
        log_odds(logits + shift) - log_odds(logits),
        shift * (1 / correct - 1 / wrong),
        rtol=1e-4,
        atol=1e-3,
    )


@given(logits_and_ids(largest=1e4), TEMPERATURES)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(inputs, temperature):
    logits, _ = inputs
    log_p = ops.temperature_log_softmax(logits, temperature)
    for divergence in (ops.kl_divergence, ops.reverse_kl_divergence):
        value, gradient = value_and_gradient(
            lambda student, divergence=divergence: keras.ops.sum(
                divergence(log_p, ops.temperature_log_softmax(student, temperature))
            ),
            logits,
        )
        assert value == 0
        np.testing.assert_allclose(gradient, 0, atol=1e-6 / temperature)


@given(two_logits_and_ids(), MODERATE)
def test_divergences_equal_those_in_float64(inputs, temperature):
    teacher, student, _ = inputs
    arguments = teacher, student
    ours = [ops.temperature_log_softmax(logits, temperature) for logits in arguments]
    exact = [reference.log_softmax(logits, temperature) for logits in arguments]
    for name, divergence in {
        "cross_entropy": ops.cross_entropy,
        "kl": ops.kl_divergence,
        "reverse_kl": ops.reverse_kl_divergence,
    }.items():
        expected = getattr(reference, name)(*exact)
        np.testing.assert_allclose(divergence(*ours), expected, rtol=1e-4, atol=1e-4)


@given(two_logits_and_ids(), MODERATE, MODERATE, st.randoms())
def test_the_order_of_classes_does_not_matter(inputs, correct, wrong, random):
    teacher, student, ids = inputs
    order = np.array(random.sample(range(teacher.shape[-1]), teacher.shape[-1]))
    permuted_ids = np.argsort(order)[ids]
    targets = np.asarray(ops.asymmetric_softmax(teacher, ids, correct, wrong))
    permuted = np.asarray(ops.asymmetric_softmax(teacher[:, order], permuted_ids, correct, wrong))
    np.testing.assert_allclose(permuted, targets[:, order], rtol=1e-5, atol=1e-30)

    log_q = reference.log_softmax(student)
    for before, after in zip(
        ops.decompose_kd(targets, log_q, ids),
        ops.decompose_kd(permuted, log_q[:, order], permuted_ids),
        strict=True,
    ):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@given(logits_and_ids(), MODERATE, MODERATE)
def test_derived_variance_follows_from_derived_average_and_inherent_variance(
    inputs, correct, wrong
):
    logits, ids = inputs
    targets = ops.asymmetric_softmax(logits, ids, correct, wrong)
    average = np.asarray(ops.derived_average(targets, ids), "float64")
    assume(np.all(average > 1e-12))  # Its square must be a normal float32.
    inherent = np.asarray(ops.inherent_variance(logits, ids, wrong), "float64")
    np.testing.assert_allclose(
        ops.derived_variance(targets, ids),
        ((logits.shape[-1] - 1) * average) ** 2 * inherent,
        rtol=1e-3,
        atol=1e-6 * np.max(average) ** 2,
    )


@given(two_logits_and_ids(), MODERATE, MODERATE)
def test_parts_of_kd_sum_to_the_cross_entropy(inputs, correct, wrong):
    teacher, student, ids = inputs
    log_p = ops.asymmetric_log_softmax(teacher, ids, correct, wrong)
    log_q = ops.temperature_log_softmax(student)
    np.testing.assert_allclose(
        sum(ops.decompose_kd(keras.ops.exp(log_p), log_q, ids)),
        ops.cross_entropy(log_p, log_q),
        rtol=1e-4,
        atol=1e-4,
    )


@given(logits_and_ids(), MODERATE, MODERATE)
def test_all_forms_of_hard_labels_agree(inputs, correct, wrong):
    logits, ids = inputs
    expected = ops.asymmetric_softmax(logits, ids, correct, wrong)
    one_hot = reference.label_distribution(ids, logits)
    for labels in (ids[:, None], ids.astype("float32"), one_hot):
        actual = ops.asymmetric_softmax(logits, labels, correct, wrong)
        np.testing.assert_array_equal(actual, expected)
