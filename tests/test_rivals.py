"""What the losses of another shape than the engine's promise, beyond their golden values."""

import models
import numpy as np
import pytest
import reference
from backends import cases_in_turn
from gradients import value_and_gradient

from keras_ats import Distiller, adjustments, losses

pytestmark = cases_in_turn("edges of the arithmetic that the backends share")

CLASSES = 5
WITH_ONE_LABEL = {
    "decoupled": losses.DecoupledKD,
    "normalized": losses.NormalizedKD,
    "refined": losses.RefinedLogitKD,
    "smoothing": losses.LabelSmoothing,
    "smoothing_wrong": lambda **kwargs: losses.LabelSmoothing(spread="wrong", **kwargs),
}
OF_THE_BATCH = {"dist": losses.DIST, "relation": losses.RelationKD}
ALL = {**WITH_ONE_LABEL, **OF_THE_BATCH, "logit_mse": losses.LogitMSE}
WRONG_PARTS = {
    "decoupled": lambda **kwargs: losses.DecoupledKD(correct_weight=0.0, **kwargs),
    "normalized": lambda **kwargs: losses.NormalizedKD(correct_weight=0.0, **kwargs),
    "refined": lambda **kwargs: losses.RefinedLogitKD(correct_weight=0.0, **kwargs),
}


def each(table):
    return pytest.mark.parametrize("make", table.values(), ids=table)


def batch(rng, *shape, classes=CLASSES):
    """Student's logits, teacher's logits and class ids."""
    student, teacher = rng.normal(0, 3, (2, *shape, classes)).astype("float32")
    return student, teacher, rng.integers(classes, size=shape)


def gradient(loss, student, *rest, **kwargs):
    return value_and_gradient(lambda logits: loss(logits, *rest, **kwargs), student)[1]


class TestLabels:
    @pytest.mark.parametrize("name", ["normalized", "refined"])
    def test_a_soft_row_counts_as_its_largest_entry(self, rng, name):
        student, teacher, ids = batch(rng, 4)
        soft = 0.4 * np.full((4, CLASSES), 1 / CLASSES) + 0.6 * np.eye(CLASSES)[ids]
        loss = ALL[name](reduction="none")
        np.testing.assert_array_equal(
            loss(student, teacher, labels=soft), loss(student, teacher, labels=ids)
        )

    def test_decoupled_kd_shares_a_class_of_a_soft_row_between_both_parts(self, rng):
        student, teacher, _ = batch(rng, 4)
        soft = rng.dirichlet(np.ones(CLASSES), size=4).astype("float32")
        values = losses.DecoupledKD(3.0, 2.0, 5.0, reduction="none")(student, teacher, labels=soft)
        p, q = reference.softmax(teacher, 3.0), reference.softmax(student, 3.0)
        right_p, right_q = (soft * p).sum(axis=-1), (soft * q).sum(axis=-1)
        wrong_p, wrong_q = (1 - soft) * p, (1 - soft) * q
        correct_part = right_p * np.log(right_p / right_q)
        correct_part += (1 - right_p) * np.log((1 - right_p) / (1 - right_q))
        wrong_p /= wrong_p.sum(axis=-1, keepdims=True)
        wrong_q /= wrong_q.sum(axis=-1, keepdims=True)
        wrong_part = (wrong_p * np.log(wrong_p / wrong_q)).sum(axis=-1)
        np.testing.assert_allclose(values, 9 * (2 * correct_part + 5 * wrong_part), rtol=1e-4)

    @each(WITH_ONE_LABEL)
    def test_a_label_out_of_range_shows_and_can_be_weighted_away(self, rng, make):
        student, teacher, ids = batch(rng, 4)
        expected = make(reduction="sum")(student[1:], teacher[1:], labels=ids[1:])
        ids[0] = 255
        loss = make(reduction="sum")
        values = make(reduction="none")(student, teacher, labels=ids)
        np.testing.assert_array_equal(np.isnan(np.asarray(values)), [True, False, False, False])
        weights = np.array([0.0, 1.0, 1.0, 1.0])
        np.testing.assert_allclose(
            loss(student, teacher, labels=ids, sample_weight=weights), expected, rtol=1e-5
        )
        slopes = gradient(loss, student, teacher, labels=ids, sample_weight=weights)
        np.testing.assert_array_equal(slopes[0], 0)

    def test_label_smoothing_does_not_look_at_the_teacher(self, rng):
        student, teacher, ids = batch(rng, 4)
        for spread in ("all", "wrong"):
            loss = losses.LabelSmoothing(spread=spread)
            np.testing.assert_array_equal(
                loss(student, teacher, labels=ids), loss(student, -teacher, labels=ids)
            )


class TestConventions:
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_the_parts_of_decoupled_kd_make_up_plain_kd(self, rng, temperature):
        student, teacher, ids = batch(rng, 16)
        none = {"reduction": "none"}
        correct_part = losses.DecoupledKD(temperature, 1.0, 0.0, **none)(
            student, teacher, labels=ids
        )
        wrong_part = losses.DecoupledKD(temperature, 0.0, 1.0, **none)(student, teacher, labels=ids)
        left = 1 - reference.softmax(teacher, temperature)[np.arange(16), ids]
        np.testing.assert_allclose(
            np.asarray(correct_part) + left * np.asarray(wrong_part),
            losses.TemperatureKD(temperature, **none)(student, teacher),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_unsmoothed_labels_give_the_cross_entropy(self, rng):
        student, teacher, ids = batch(rng, 4)
        np.testing.assert_allclose(
            losses.LabelSmoothing(0.0)(student, teacher, labels=ids),
            reference.label_crossentropy(ids, student)[0].mean(),
            rtol=1e-5,
        )

    def test_logit_mse_sees_a_shift_that_standardizing_hides(self, rng):
        student, teacher, _ = batch(rng, 4)
        plain, standardized = (
            losses.LogitMSE(),
            losses.LogitMSE(adjustment=adjustments.Standardize()),
        )
        assert float(plain(student, student + 2.0)) == pytest.approx(4.0)
        np.testing.assert_allclose(
            standardized(student, teacher + 2.0), standardized(student, teacher), rtol=1e-4
        )

    @pytest.mark.parametrize("make", [losses.DecoupledKD, losses.NormalizedKD])
    def test_swapped_logits_are_those_of_a_teacher_who_was_right(self, rng, make):
        student, teacher, ids = batch(rng, 4)
        teacher[:, 0] += 9.0  # Wrong wherever the label is another class.
        ids[:2] = [3, 0]
        swapped = teacher.copy()
        for row, label in enumerate(ids):
            swapped[row, [0, label]] = teacher[row, [label, 0]]
        np.testing.assert_allclose(
            make(adjustment=adjustments.Swap())(student, teacher, labels=ids),
            make()(student, swapped, labels=ids),
            rtol=1e-5,
        )

    def test_decoupled_kd_takes_smoothed_targets_as_they_are(self, rng):
        """Whatever the temperature, unlike logits that would give them."""
        student, teacher, _ = batch(rng, 4)
        teacher[:, 0] += 9.0
        ids = np.array([1, 2, 3, 4])
        targets = np.where(np.eye(CLASSES)[ids] == 1, 0.9, 0.1 / (CLASSES - 1))
        loss = losses.DecoupledKD(2.0, adjustment=adjustments.Smooth(0.9))
        np.testing.assert_allclose(
            loss(student, teacher, labels=ids),
            losses.DecoupledKD(2.0)(student, 2.0 * np.log(targets), labels=ids),
            rtol=1e-5,
        )


class TestEdges:
    @each(WRONG_PARTS)
    def test_one_wrong_class_has_none_to_tell_it_from(self, rng, make):
        student, teacher, ids = batch(rng, 4, classes=2)
        value, slopes = value_and_gradient(lambda z: make()(z, teacher, labels=ids), student)
        assert value == 0
        np.testing.assert_array_equal(slopes, 0)

    def test_two_classes_always_correlate(self, rng):
        student, teacher, _ = batch(rng, 8, classes=2)
        loss = losses.DIST(4.0, intra_class_weight=0.0, reduction="none")
        agree = (student[:, 0] > student[:, 1]) == (teacher[:, 0] > teacher[:, 1])
        values = loss(student, teacher)
        np.testing.assert_allclose(values, np.where(agree, 0, 2 * 4.0**2), atol=1e-3)
        slopes = gradient(losses.DIST(4.0, intra_class_weight=0.0), student, teacher)
        np.testing.assert_allclose(slopes, 0, atol=1e-4)

    def test_a_single_sample_has_none_to_correlate_with(self, rng):
        student, teacher, _ = batch(rng, 1)
        loss = losses.DIST(4.0, inter_class_weight=0.0, intra_class_weight=0.5)
        value, slopes = value_and_gradient(lambda z: loss(z, teacher), student)
        assert value == 0.5 * 4.0**2
        np.testing.assert_array_equal(slopes, 0)

    def test_a_label_that_the_teacher_puts_last_leaves_nothing_to_rank(self, rng):
        student, teacher, _ = batch(rng, 4)
        ids = teacher.argmin(axis=-1)
        loss = losses.RefinedLogitKD(correct_weight=0.0)
        value, slopes = value_and_gradient(lambda z: loss(z, teacher, labels=ids), student)
        assert value == 0
        np.testing.assert_array_equal(slopes, 0)
        both = losses.RefinedLogitKD(correct_temperature=2.0, reduction="none")
        p, q = reference.softmax(teacher, 2.0), reference.softmax(student, 2.0)
        sure_p, sure_q = p.max(axis=-1), q[np.arange(4), ids]
        expected = sure_p * np.log(sure_p / sure_q)
        expected += (1 - sure_p) * np.log((1 - sure_p) / (1 - sure_q))
        np.testing.assert_allclose(both(student, teacher, labels=ids), 4 * expected, rtol=1e-4)

    @pytest.mark.parametrize("classes", [2, CLASSES])
    @each(ALL)
    def test_absurd_logits_have_finite_values_and_gradients(self, rng, make, classes):
        student, teacher, ids = batch(rng, 6, classes=classes)
        student, teacher = 1e4 * np.sign(student), 1e4 * np.sign(teacher)
        soft = rng.dirichlet(np.ones(classes), size=6).astype("float32")
        for labels in (ids, soft):
            value, slopes = value_and_gradient(
                lambda z, labels=labels: make()(z, teacher, labels=labels), student
            )
            assert np.isfinite(value)
            assert np.all(np.isfinite(slopes))


class TestBatches:
    @pytest.mark.parametrize(
        ("whole", "depends"),
        [
            (losses.DIST(intra_class_weight=0.0), False),
            (losses.DIST(inter_class_weight=0.0), True),
            (losses.RelationKD(class_weight=0.0), True),
            (losses.RelationKD(batch_weight=0.0), True),
            (losses.DecoupledKD(), False),
        ],
    )
    def test_which_losses_depend_on_who_shares_a_batch(self, rng, whole, depends):
        """Two replicas, or two halves of a batch, give another value where the docstring says."""
        student, teacher, ids = batch(rng, 8)
        halves = [
            whole(student[half], teacher[half], labels=ids[half])
            for half in (slice(4), slice(4, 8))
        ]
        difference = abs(
            float(whole(student, teacher, labels=ids)) / np.mean([float(h) for h in halves]) - 1
        )
        assert difference > 0.01 if depends else difference < 1e-5


class TestConfiguration:
    @pytest.mark.parametrize(
        ("make", "argument"),
        [
            (losses.DecoupledKD, "temperature"),
            (losses.DecoupledKD, "correct_weight"),
            (losses.NormalizedKD, "wrong_weight"),
            (losses.DIST, "inter_class_weight"),
            (losses.DIST, "intra_class_weight"),
            (losses.RelationKD, "batch_weight"),
            (losses.RelationKD, "class_weight"),
            (losses.RefinedLogitKD, "correct_temperature"),
            (losses.LabelSmoothing, "smoothing"),
        ],
    )
    def test_numbers_out_of_range_are_refused(self, make, argument):
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            make(**{argument: -1.0})
        with pytest.raises(TypeError, match=f"`{argument}` must be"):
            make(**{argument: "much"})

    def test_other_arguments_are_checked_too(self):
        with pytest.raises(ValueError, match="`spread` must be one of"):
            losses.LabelSmoothing(spread="some")
        for make in (losses.DecoupledKD, losses.NormalizedKD):
            with pytest.raises(TypeError, match="`adjustment` must be an instance"):
                make(adjustment="swap")

    @each(ALL)
    def test_trains_on_batches_of_unequal_size(self, rng, make):
        x, y = models.features(rng, samples=7)
        distiller = Distiller(models.linear(), models.linear())
        distiller.compile("sgd", kd_loss=make())
        logs = distiller.fit(x, y, batch_size=4, epochs=1, verbose=0).history
        assert np.isfinite(logs["kd_loss"][0])
