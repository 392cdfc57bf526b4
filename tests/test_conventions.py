"""Identities between methods that pin each one's conventions: reductions, scales, directions."""

import numpy as np
import pytest
import reference
from gradients import value_and_gradient
from keras import ops

import keras_ats
from keras_ats import Lesson, Outputs
from keras_ats.losses import (
    AsymmetricTemperatureKD,
    DecoupledKD,
    SoftTargetKD,
    TemperatureKD,
    TransformedTeacherKD,
)


@pytest.fixture
def batch(rng):
    student, teacher = rng.normal(0, 4, (2, 6, 7)).astype("float32")
    return student, teacher, rng.integers(0, 7, 6)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_decoupled_kd_with_its_natural_weight_is_kd(batch):
    student, teacher, labels = batch
    left_to_wrong = 1 - np.take_along_axis(
        reference.softmax(teacher / 4.0), labels[:, None], axis=-1
    )
    parts = [
        numpy(DecoupledKD(4.0, *weights, reduction="none")(student, teacher, labels=labels))
        for weights in ((1, 0), (0, 1))
    ]
    together = parts[0] + left_to_wrong[:, 0] * parts[1]
    plain = numpy(TemperatureKD(4.0, reduction="none")(student, teacher))
    np.testing.assert_allclose(together, plain, rtol=1e-4, atol=1e-5)


def test_transformed_teacher_is_ats_at_equal_temperatures_up_to_the_entropy(batch):
    student, teacher, labels = batch
    ttm = numpy(TransformedTeacherKD(3.0, reduction="none")(student, teacher))
    ats = numpy(
        AsymmetricTemperatureKD(3.0, 3.0, reduction="none")(student, teacher, labels=labels)
    )
    targets = reference.softmax(teacher / 3.0)
    entropy = -np.sum(targets * np.log(targets), axis=-1)
    np.testing.assert_allclose(ttm + entropy, ats, rtol=1e-5)


def test_ats_at_equal_temperatures_on_both_sides_is_kd_in_cross_entropy_form(batch):
    student, teacher, labels = batch
    ats = AsymmetricTemperatureKD(3.0, 3.0, student_temperature=3.0)
    cross_entropy = SoftTargetKD(3.0, divergence="cross_entropy")
    kl = TemperatureKD(3.0)
    results = {
        name: value_and_gradient(lambda z, loss=loss: loss(z, teacher, labels=labels), student)
        for name, loss in (("ats", ats), ("cross-entropy", cross_entropy), ("kl", kl))
    }
    np.testing.assert_allclose(results["ats"][0], results["cross-entropy"][0], rtol=1e-6)
    for name in ("cross-entropy", "kl"):
        np.testing.assert_allclose(results["ats"][1], results[name][1], atol=1e-6)


def test_swap_makes_the_label_the_top_class_and_ats_acts_on_it(batch):
    _, teacher, labels = batch
    swapped = numpy(keras_ats.adjustments.Swap().adjust_logits(teacher, labels))
    np.testing.assert_array_equal(swapped.argmax(axis=-1), labels)
    np.testing.assert_array_equal(np.sort(swapped, axis=-1), np.sort(teacher, axis=-1))


def test_swap_takes_the_first_of_equal_top_logits():
    swap = keras_ats.adjustments.Swap()
    teacher = np.array([[5.0, 5.0, 1.0], [5.0, 5.0, 1.0]], "float32")
    # The label is one of the two largest: equal values change places, so nothing changes.
    np.testing.assert_array_equal(numpy(swap.adjust_logits(teacher, [0, 1])), teacher)
    np.testing.assert_array_equal(numpy(swap.adjust_logits(teacher[:1], [2])), [[1.0, 5.0, 5.0]])


def test_a_soft_label_swaps_as_its_largest_entry():
    teacher, soft = np.array([[5.0, 1.0, 0.0]], "float32"), np.array([[0.2, 0.1, 0.7]], "float32")
    swapped = numpy(keras_ats.adjustments.Swap().adjust_logits(teacher, soft))
    np.testing.assert_array_equal(swapped, [[0.0, 1.0, 5.0]])


def test_smooth_listens_to_a_right_teacher_only():
    teacher = np.array([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]], "float32")
    log_targets = keras_ats.ops.temperature_log_softmax(teacher, 2.0)
    targets = np.exp(
        numpy(keras_ats.adjustments.Smooth(0.8).adjust_targets(log_targets, teacher, [0, 2]))
    )
    np.testing.assert_allclose(targets[0], reference.softmax(teacher / 2.0)[0], rtol=1e-5)
    np.testing.assert_allclose(targets[1], [0.1, 0.1, 0.8], rtol=1e-5)


def lesson(student, teacher, labels=None, mask=None):
    """What a rule is shown of a batch."""
    student, teacher = map(ops.convert_to_tensor, (student, teacher))
    return Lesson(Outputs(student, mask=mask), Outputs(teacher), labels)


def test_masked_samples_leave_the_mean_of_dynamic_temperatures(batch):
    student, teacher, _ = batch
    rule = keras_ats.temperatures.FocalWeighted(4.0, 1.0)
    mask = np.array([True, True, True, False, True, False])
    masked = numpy(rule(lesson(student, teacher, mask=mask)))
    alone = numpy(rule(lesson(student[mask], teacher[mask])))
    np.testing.assert_allclose(masked[mask], alone, rtol=1e-6)
    np.testing.assert_allclose(alone.mean(), 4.0, rtol=1e-6)


def test_a_product_scales_both_temperatures_of_ats_per_sample(batch):
    student, teacher, labels = batch
    asymmetric = keras_ats.temperatures.Asymmetric(4.0, 2.0)
    focal = keras_ats.temperatures.FocalWeighted(1.0, 0.5, minimum=0.1)
    product = keras_ats.temperatures.Product(asymmetric, focal)
    shown = lesson(student, teacher, labels)
    np.testing.assert_allclose(
        numpy(product(shown)), numpy(asymmetric(shown)) * numpy(focal(shown))
    )
    assert numpy(product(shown)).shape == (6, 7)
    assert len(product.variables) == 5
