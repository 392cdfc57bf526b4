"""Labels that say nothing, that cannot be meant, and that the teacher gives in their place."""

from functools import partial

import keras
import numpy as np
import pytest
import reference
from backends import cases_in_turn
from gradients import value_and_gradient

from keras_ats import adjustments, losses
from keras_ats.losses.ignored_labels import without_ignored
from keras_ats.ops.label_range import has_label
from keras_ats.record import Lesson, Outputs

pytestmark = cases_in_turn("every loss is told by the same mask")

SAMPLES, PIXELS, CLASSES = 2, 4, 5
OF_LABELS = {
    "ats": losses.AsymmetricTemperatureKD,
    "dkd": losses.DecoupledKD,
    "nkd": losses.NormalizedKD,
    "rld": losses.RefinedLogitKD,
    "label-smoothing": losses.LabelSmoothing,
    "swapped": partial(losses.TemperatureKD, adjustment=adjustments.Swap()),
    "smoothed": partial(losses.TemperatureKD, adjustment=adjustments.Smooth()),
}
WITHOUT_LABELS = {
    "kd": losses.TemperatureKD,
    "flsw": losses.DynamicTemperatureKD,
    "dist": losses.DIST,
    "relation": losses.RelationKD,
    "logit-mse": losses.LogitMSE,
    "hard-label": losses.HardLabelKD,
    "jensen-shannon": losses.JensenShannonKD,
}
of_labels = pytest.mark.parametrize("make", OF_LABELS.values(), ids=OF_LABELS)
every = pytest.mark.parametrize(
    "make", [*OF_LABELS.values(), *WITHOUT_LABELS.values()], ids=[*OF_LABELS, *WITHOUT_LABELS]
)


@pytest.fixture
def images(rng):
    """Logits of pixels, and ids."""
    student, teacher = rng.normal(0, 3, (2, SAMPLES, PIXELS, CLASSES)).astype("float32")
    return student, teacher, rng.integers(CLASSES, size=(SAMPLES, PIXELS))


def run(loss, student, teacher, **given):
    return value_and_gradient(
        lambda z: keras.ops.sum(loss(z, teacher, **given)), student.astype("float32")
    )


def marked(labels, ignored):
    """The labels with three pixels that nothing is known of, and where the others are."""
    labels = labels.copy()
    labels[0, 1] = labels[1, 0] = labels[1, 3] = ignored
    return labels, labels != ignored


class TestIgnoredLabels:
    @every
    @pytest.mark.parametrize("ignored", [255, -100])
    def test_are_left_out_as_if_masked(self, images, make, ignored):
        student, teacher, labels = images
        labels, valid = marked(labels, ignored)
        expected, slopes = run(make(), student, teacher, labels=labels, mask=valid)
        value, gradient = run(make(ignore_label=ignored), student, teacher, labels=labels)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6)
        np.testing.assert_array_equal(gradient[~valid], 0)

    def test_the_mean_is_that_of_the_others(self, images):
        student, teacher, labels = images
        labels, valid = marked(labels, 255)
        values, _ = reference.ats(student[valid], teacher[valid], labels[valid], 4.0, 2.0)
        loss = losses.AsymmetricTemperatureKD(ignore_label=255)
        for given in (labels, labels[..., None], labels.astype("float32")):
            np.testing.assert_allclose(loss(student, teacher, labels=given), values.mean(), 1e-5)

    def test_join_the_mask(self, images):
        student, teacher, labels = images
        labels, valid = marked(labels, 255)
        mask = np.ones_like(valid)
        mask[:, 2] = False
        loss = losses.AsymmetricTemperatureKD
        expected = loss()(student, teacher, labels=labels, mask=mask & valid)
        for shape in (mask.shape, (*mask.shape, 1)):
            value = loss(ignore_label=255)(
                student, teacher, labels=labels, mask=mask.reshape(shape)
            )
            np.testing.assert_allclose(value, expected)

    def test_a_class_within_the_range_can_be_ignored(self, images):
        student, teacher, labels = images
        mask = labels != 0
        np.testing.assert_allclose(
            losses.TemperatureKD(ignore_label=0)(student, teacher, labels=labels),
            losses.TemperatureKD()(student, teacher, mask=mask),
        )

    def test_a_loss_without_labels_needs_them_for_that(self, images):
        student, teacher, _ = images
        loss = losses.TemperatureKD(ignore_label=255)
        assert loss.needs.labels
        with pytest.raises(ValueError, match=r"ignore_label=255 needs.*leave `ignore_label` out"):
            loss(student, teacher)

    def test_rows_name_no_class_to_ignore(self, images):
        student, teacher, labels = images
        with pytest.raises(ValueError, match=r"needs labels that are class ids.*Pass ids"):
            losses.TemperatureKD(ignore_label=255)(student, teacher, labels=np.eye(5)[labels])

    @pytest.mark.parametrize("value", [1.5, True, "255"])
    def test_only_a_whole_number(self, value):
        with pytest.raises(TypeError, match=r"`ignore_label` must be a whole number"):
            losses.TemperatureKD(ignore_label=value)

    def test_config(self):
        loss = losses.DecoupledKD(ignore_label=-100, pseudo_labels=True)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert (copy.ignore_label, copy.pseudo_labels) == (-100, True)
        assert copy.get_config() == loss.get_config()


class TestWithoutIgnored:
    def lesson(self, images, mask=None, labels=None):
        student, teacher, _ = images
        return Lesson(Outputs(student, mask=mask), Outputs(teacher), labels)

    def test_joins_the_labels_with_the_mask(self, images):
        labels, valid = marked(images[2], 255)
        mask = np.ones_like(valid)
        mask[1, 2] = False
        for given, expected in ((None, valid), (mask, mask & valid)):
            lesson = without_ignored(self.lesson(images, given, labels), 255)
            np.testing.assert_array_equal(lesson.student.mask, expected)
        loss = losses.AsymmetricTemperatureKD()
        np.testing.assert_allclose(
            loss.parts(lesson)[loss.name],
            loss(images[0], images[1], labels=labels, mask=mask & valid),
        )

    def test_finds_the_mask_of_keras(self, images):
        student, _, _ = images
        student[1, 1] = -1.0
        labels, valid = marked(images[2], 255)
        lesson = self.lesson(images, labels=labels)
        logits = keras.layers.Masking(-1.0)(student)
        lesson = lesson._replace(student=lesson.student._replace(logits=logits))
        valid[1, 1] = False
        np.testing.assert_array_equal(without_ignored(lesson, 255).student.mask, valid)

    @pytest.mark.parametrize("ignored", [None, 255])
    @pytest.mark.parametrize("form", ["none", "rows"])
    def test_leaves_the_rest_alone(self, images, ignored, form):
        labels = None if form == "none" else np.eye(CLASSES)[images[2]]
        lesson = self.lesson(images, labels=labels)
        assert without_ignored(lesson, ignored) is lesson
        assert without_ignored(self.lesson(images, labels=images[2]), None).student.mask is None

    def test_labels_of_a_single_unit_are_one_for_each_position(self, rng):
        logits, labels = np.zeros((3, 1)), np.array([1, 0, 255])
        for given in (labels, labels[:, None]):
            np.testing.assert_array_equal(has_label(given, logits, 255), [True, True, False])


class TestLabelsOutOfRange:
    """NaN on every backend, rather than an error on some and silence on others."""

    @of_labels
    @pytest.mark.parametrize("wrong", [-1, -100, CLASSES, 255])
    def test_make_the_loss_nan(self, images, make, wrong):
        student, teacher, labels = images
        labels[0, 1] = wrong
        value, gradient = run(make(), student, teacher, labels=labels)
        assert np.isnan(value)
        assert np.all(np.isfinite(gradient))
        values = np.asarray(make(reduction="none")(student, teacher, labels=labels))
        np.testing.assert_array_equal(np.isnan(values), labels == wrong)

    @of_labels
    @pytest.mark.parametrize("wrong", [-1.0, 2.0, 255.0])
    def test_rows_too(self, images, make, wrong):
        student, teacher, labels = images
        rows = np.eye(CLASSES, dtype="float32")[labels]
        rows[0, 1] *= wrong
        value, gradient = run(make(), student, teacher, labels=rows)
        assert np.isnan(value)
        assert np.all(np.isfinite(gradient))

    @of_labels
    def test_but_not_where_the_position_does_not_count(self, images, make):
        student, teacher, labels = images
        wrong, valid = marked(labels, -100)
        for given in ({"mask": valid}, {"sample_weight": valid.astype("float32")}):
            loss = make(reduction="sum")
            expected, slopes = run(loss, student, teacher, labels=labels, **given)
            value, gradient = run(loss, student, teacher, labels=wrong, **given)
            np.testing.assert_allclose(value, expected, rtol=1e-6)
            np.testing.assert_allclose(gradient, slopes, rtol=1e-6)

    def test_another_id_than_the_ignored_one(self, images):
        student, teacher, labels = images
        labels[0, 0], labels[0, 1] = 255, 254
        loss = losses.AsymmetricTemperatureKD(ignore_label=255)
        assert np.isnan(float(loss(student, teacher, labels=labels)))

    def test_a_loss_that_reads_no_labels_does_not_mind(self, images):
        student, teacher, labels = images
        labels[0, 0] = 255
        assert np.isfinite(float(losses.TemperatureKD()(student, teacher, labels=labels)))

    def test_rounding_is_no_mistake(self, images):
        student, teacher, labels = images
        rows = np.eye(CLASSES, dtype="float32")[labels] * 1.001
        loss = losses.AsymmetricTemperatureKD()
        assert np.isfinite(float(loss(student, teacher, labels=rows)))

    @pytest.mark.parametrize("wrong", [-1, -100, CLASSES, 255])
    def test_the_supervised_loss_is_not_silent_either(self, images, wrong):
        student, _, labels = images
        labels[0, 1] = wrong
        try:
            value = float(losses.LabelCrossentropy()(labels, student))
        except Exception:  # TensorFlow and torch raise errors of their own.
            return
        assert np.isnan(value)


class TestLabelCrossentropy:
    def test_ignores_a_class(self, images):
        student, _, labels = images
        labels, valid = marked(labels, 255)
        expected, slopes = reference.label_crossentropy(labels[valid], student[valid])
        loss = losses.LabelCrossentropy(ignore_class=255)
        value, gradient = value_and_gradient(lambda z: loss(labels, z), student)
        np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
        np.testing.assert_allclose(gradient[valid], slopes / valid.sum(), rtol=1e-4, atol=1e-6)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert copy.ignore_class == 255


class TestPseudoLabels:
    @of_labels
    def test_are_the_teachers_classes(self, images, make):
        student, teacher, labels = images
        loss = make(pseudo_labels=True)
        assert not loss.needs.labels
        expected, slopes = run(make(), student, teacher, labels=teacher.argmax(axis=-1))
        for given in ({}, {"labels": labels}, {"labels": np.full_like(labels, -1)}):
            value, gradient = run(loss, student, teacher, **given)
            np.testing.assert_allclose(value, expected, rtol=1e-6)
            np.testing.assert_allclose(gradient, slopes, rtol=1e-6)

    def test_of_sigmoid_units_are_one_for_each_class(self, images):
        student, teacher, _ = images
        np.testing.assert_allclose(
            losses.BernoulliKD(pseudo_labels=True)(student, teacher),
            losses.BernoulliKD()(student, teacher, labels=(teacher > 0).astype("float32")),
        )

    def test_positions_without_a_label_can_be_left_out_all_the_same(self, images):
        student, teacher, labels = images
        labels, valid = marked(labels, -1)
        loss = losses.AsymmetricTemperatureKD(ignore_label=-1, pseudo_labels=True)
        assert loss.needs.labels
        np.testing.assert_allclose(
            loss(student, teacher, labels=labels),
            losses.AsymmetricTemperatureKD()(
                student, teacher, labels=teacher.argmax(axis=-1), mask=valid
            ),
        )

    def test_missing_labels_are_an_error_that_names_them(self, images):
        student, teacher, _ = images
        with pytest.raises(ValueError, match=r"needs labels.*pseudo_labels=True"):
            losses.AsymmetricTemperatureKD()(student, teacher)

    def test_the_teachers_class_as_the_only_label_is_hard_label_kd(self, images):
        student, teacher, _ = images
        np.testing.assert_allclose(
            losses.HardLabelKD()(student, teacher),
            losses.LabelSmoothing(0.0, pseudo_labels=True)(student, teacher),
            rtol=1e-6,
        )
