"""The losses: what all have in common, and what each does alone."""

import warnings
from functools import partial

import keras
import numpy as np
import pytest
import reference
from loss_tester import (
    LossCase,
    LossTester,
    assert_close,
    each_loss,
    of_batch,
    random_batch,
    student_gradient,
)

import keras_ats
from keras_ats.adjustments import Smooth, Standardize, Swap
from keras_ats.losses import (
    DIST,
    AsymmetricTemperatureKD,
    CurriculumTemperatureKD,
    DecoupledKD,
    DynamicTemperatureKD,
    HardLabelKD,
    JensenShannonKD,
    KDLoss,
    LabelCrossentropy,
    LabelSmoothing,
    LogitMSE,
    NormalizedKD,
    RefinedLogitKD,
    RegressionKD,
    RelationKD,
    SoftTargetKD,
    TemperatureKD,
    TransformedTeacherKD,
)
from keras_ats.temperatures import (
    Asymmetric,
    Constant,
    FocalWeighted,
    Product,
    StandardDeviation,
    Temperature,
)


@keras.saving.register_keras_serializable(package="tests")
class Confident(Temperature):
    """A rule of a user's own: softer, the surer the teacher is."""

    def __init__(self, strength=3.0):
        self.strength = self.add_variable(strength, "strength")

    def __call__(self, lesson):
        probabilities = keras_ats.ops.temperature_softmax(lesson.teacher.logits)
        return 1.0 + self.strength * keras.ops.max(probabilities, axis=-1, keepdims=True)

    def get_config(self):
        return {"strength": float(self.strength.value)}


@keras.saving.register_keras_serializable(package="tests")
class RaiseLabel(keras_ats.adjustments.Adjustment):
    """An adjustment of a user's own."""

    def adjust_logits(self, teacher_logits, labels):
        return teacher_logits + keras_ats.ops.label_distribution(labels, teacher_logits)


def raised(teacher, labels):
    return teacher + reference.label_distribution(labels, teacher)


def confident_kd(student, teacher, labels):
    temperature = 1 + 3 * reference.softmax(teacher).max(axis=-1, keepdims=True)
    return reference.kd(student, teacher, temperature)


def unscaled_asymmetric_reverse_kl(student, teacher, labels):
    log_p = reference.asymmetric_log_softmax(teacher, labels, 4.0, 2.0)
    values, slopes = reference.soft_target_kd(student, log_p, 3.0, "reverse_kl")
    return values / 9, slopes / 9


def norm_kd(student, teacher, labels):
    """NormKD: the slope runs through the student's deviation too."""
    scale, own = (2.0 * side.std(axis=-1, ddof=1, keepdims=True) for side in (teacher, student))
    log_p, log_q = reference.log_softmax(teacher, scale), reference.log_softmax(student, own)
    values = scale[..., 0] ** 2 * reference.kl(log_p, log_q)
    slope = scale**2 / own * (np.exp(log_q) - np.exp(log_p))
    # A change of the student along itself changes nothing.
    centered = student - student.mean(axis=-1, keepdims=True)
    along = (slope * student).sum(axis=-1, keepdims=True) / (centered**2).sum(-1, keepdims=True)
    return values, slope - along * centered


def logit_mse(student, teacher, labels):
    difference = student.astype("float64") - teacher
    return (difference**2).mean(axis=-1), 2 / difference.shape[-1] * difference


def jensen_shannon_kd(student, teacher, temperature, weight):
    log_p, log_q = (reference.log_softmax(side, temperature) for side in (teacher, student))
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.log(weight * p + (1 - weight) * q)
    values = weight * reference.kl(log_p, log_m) + (1 - weight) * reference.kl(log_q, log_m)
    # The slope in q is (1 - weight) * log(q / m); that of a softmax takes its mean away.
    slope = (1 - weight) * (log_q - log_m)
    slope -= (q * slope).sum(axis=-1, keepdims=True)
    return temperature**2 * values, temperature * q * slope


def smoothed_crossentropy(student, teacher, labels):
    smoothed = 0.9 * reference.label_distribution(labels, student) + 0.1 / student.shape[-1]
    return reference.label_crossentropy(smoothed, student)


CASES = [
    LossCase(
        "temperature",
        partial(TemperatureKD, 3.0),
        lambda student, teacher, labels: reference.kd(student, teacher, 3.0),
    ),
    LossCase(
        "temperature-adjusted",
        partial(TemperatureKD, 3.0, adjustment=RaiseLabel()),
        lambda student, teacher, labels: reference.kd(student, raised(teacher, labels), 3.0),
    ),
    LossCase(
        "asymmetric",
        AsymmetricTemperatureKD,
        lambda *batch: reference.ats(*batch, 4.0, 2.0),
    ),
    LossCase(
        "asymmetric-adjusted-hot-student",
        partial(AsymmetricTemperatureKD, 5, 3, student_temperature=2, adjustment=RaiseLabel()),
        lambda student, teacher, labels: reference.ats(
            student, raised(teacher, labels), labels, 5.0, 3.0, 2.0
        ),
    ),
    LossCase(
        "soft-target-cross-entropy",
        partial(SoftTargetKD, 2.5, divergence="cross_entropy"),
        lambda student, teacher, labels: reference.kd(student, teacher, 2.5, "cross_entropy"),
    ),
    LossCase(
        "soft-target-asymmetric-reverse-kl-unscaled",
        lambda **arguments: SoftTargetKD(
            Asymmetric(4.0, 2.0),
            student_temperature=3.0,
            divergence="reverse_kl",
            scale_by_squared_temperature=False,
            **arguments,
        ),
        unscaled_asymmetric_reverse_kl,
    ),
    LossCase(
        "soft-target-custom-rule",
        lambda **arguments: SoftTargetKD(Confident(), **arguments),
        confident_kd,
    ),
    LossCase("temperature-standardized", partial(TemperatureKD, adjustment=Standardize())),
    LossCase("decoupled", DecoupledKD),
    LossCase("decoupled-adjusted", partial(DecoupledKD, adjustment=RaiseLabel())),
    LossCase("normalized", NormalizedKD),
    LossCase("normalized-adjusted", partial(NormalizedKD, 3.0, adjustment=RaiseLabel())),
    LossCase("refined", RefinedLogitKD),
    LossCase("dist", DIST, independent=False),
    LossCase("standard-deviation", partial(SoftTargetKD, StandardDeviation(2.0)), norm_kd),
    LossCase("relation", RelationKD, independent=False),
    LossCase("logit-mse", LogitMSE, logit_mse),
    LossCase("regression", RegressionKD, logit_mse),
    LossCase("regression-huber", partial(RegressionKD, "huber", threshold=2.0)),
    LossCase(
        "jensen-shannon",
        partial(JensenShannonKD, 2.0, teacher_weight=0.3),
        lambda student, teacher, labels: jensen_shannon_kd(student, teacher, 2.0, 0.3),
    ),
    LossCase(
        "jensen-shannon-of-equal-weights",
        partial(SoftTargetKD, 2.0, divergence="jensen_shannon"),
        lambda student, teacher, labels: jensen_shannon_kd(student, teacher, 2.0, 0.5),
    ),
    LossCase(
        "hard-label",
        HardLabelKD,
        lambda student, teacher, labels: reference.label_crossentropy(
            teacher.argmax(axis=-1), student
        ),
    ),
    LossCase(
        "asymmetric-pseudo-labels",
        partial(AsymmetricTemperatureKD, pseudo_labels=True),
        lambda student, teacher, labels: reference.ats(
            student, teacher, teacher.argmax(axis=-1), 4.0, 2.0
        ),
    ),
    LossCase("label-smoothing", LabelSmoothing, smoothed_crossentropy),
    LossCase("label-smoothing-of-the-wrong", partial(LabelSmoothing, spread="wrong")),
    LossCase("transformed-teacher", TransformedTeacherKD),
    LossCase("transformed-teacher-weighted", partial(TransformedTeacherKD, weighted=True)),
    LossCase("curriculum", CurriculumTemperatureKD),
    LossCase("swapped", lambda **arguments: TemperatureKD(3.0, adjustment=Swap(), **arguments)),
    LossCase("smoothed", lambda **arguments: TemperatureKD(3.0, adjustment=Smooth(), **arguments)),
    LossCase("focal-weighted", DynamicTemperatureKD, independent=False),
    LossCase(
        "asymmetric-focal-weighted",
        lambda **arguments: SoftTargetKD(
            Product(Asymmetric(4.0, 2.0), FocalWeighted(1.0, 0.3, minimum=0.5)),
            student_temperature=1.0,
            **arguments,
        ),
        independent=False,
    ),
]


@each_loss(CASES)
class TestEveryLoss(LossTester):
    """The common battery."""


MAKERS_OF_TEMPERATURES = {
    "Constant": Constant,
    "correct": Asymmetric,
    "wrong": lambda value: Asymmetric(4.0, value),
    "TemperatureKD": TemperatureKD,
    "SoftTargetKD": SoftTargetKD,
    "AsymmetricTemperatureKD": AsymmetricTemperatureKD,
    "student": lambda value: AsymmetricTemperatureKD(student_temperature=value),
}


@pytest.mark.parametrize("make", MAKERS_OF_TEMPERATURES.values(), ids=MAKERS_OF_TEMPERATURES)
class TestTemperatures:
    @pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf")])
    def test_only_finite_numbers_above_zero(self, make, value):
        with pytest.raises(ValueError, match=rf"temperature` must be .* above 0.*{value!r}"):
            make(value)

    @pytest.mark.parametrize("value", [True, "4", [4.0], 4j])
    def test_only_numbers(self, make, value):
        with pytest.raises(TypeError, match=r"temperature` must be a number above 0.* of type"):
            make(value)

    @pytest.mark.parametrize("value", [4, np.float32(4), np.int64(4)])
    def test_any_kind_of_number(self, make, value):
        assert 4 in [float(variable.value) for variable in make(value).variables]


class TestAsymmetricTemperatureKD:
    def test_warns_once_of_a_wrong_temperature_above_the_correct_one(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = AsymmetricTemperatureKD(2.0, 4.0)
            of_batch(loss, random_batch())
            of_batch(loss, random_batch())
        assert len(caught) == 1
        assert "`wrong_temperature`=4 is above `correct_temperature`=2" in str(caught[0].message)

    def test_equal_temperatures_are_plain_kd_up_to_a_constant(self):
        batch = random_batch()
        value, gradient = student_gradient(
            AsymmetricTemperatureKD(3.0, 3.0, student_temperature=3.0), batch
        )
        same_value, _ = student_gradient(SoftTargetKD(3.0, divergence="cross_entropy"), batch)
        kl_value, kl_gradient = student_gradient(TemperatureKD(3.0), batch)
        assert_close(value, same_value)
        assert_close(gradient, kl_gradient)
        log_p = reference.log_softmax(batch.teacher, 3.0)
        assert_close(value - kl_value, 9 * reference.cross_entropy(log_p, log_p).mean(), rtol=1e-4)

    def test_soft_labels_mix_the_temperatures(self):
        student, teacher, ids = random_batch()
        labels = (0.9 * np.eye(5)[ids] + 0.02).astype("float32")
        values, _ = reference.ats(student, teacher, labels, 4.0, 2.0)
        assert_close(
            AsymmetricTemperatureKD(4.0, 2.0)(student, teacher, labels=labels), values.mean()
        )

    def test_soft_labels_of_padding_may_be_anything(self):
        student, teacher, ids = random_batch()
        labels = np.eye(5, dtype="float32")[ids]
        expected = AsymmetricTemperatureKD()(student[:3], teacher[:3], labels=labels[:3])
        labels[3] = np.nan
        mask = np.array([True, True, True, False])
        assert_close(
            AsymmetricTemperatureKD()(student, teacher, labels=labels, mask=mask), expected
        )

    def test_labels_that_do_not_fit_are_refused(self):
        student, teacher, _ = random_batch()
        with pytest.raises(ValueError, match=r"Labels of shape \(3,\) do not fit"):
            AsymmetricTemperatureKD()(student, teacher, labels=np.zeros(3, int))

    def test_variables_bear_the_names_of_the_arguments(self):
        loss = AsymmetricTemperatureKD(5, 3, student_temperature=2)
        assert {variable.name: float(variable.value) for variable in loss.variables} == {
            "correct_temperature": 5,
            "wrong_temperature": 3,
            "student_temperature": 2,
        }
        loss.correct_temperature.assign(6)
        assert loss.get_config()["correct_temperature"] == 6


class TestSoftTargetKD:
    def test_a_rule_per_class_needs_a_student_temperature(self):
        with pytest.raises(ValueError, match=r"student_temperature=1\.0"):
            SoftTargetKD(Asymmetric(4.0, 2.0))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"temperature": Asymmetric}, r"a rule, not its class.*Asymmetric\(\.\.\.\)"),
            ({"adjustment": "swap"}, r"`adjustment` must be an instance.*'swap'"),
        ],
    )
    def test_parts_of_the_wrong_type_are_refused(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            SoftTargetKD(**arguments)

    def test_an_unknown_divergence_is_refused(self):
        with pytest.raises(ValueError, match=r"one of \['kl', .*divergence='mse'"):
            SoftTargetKD(divergence="mse")

    def test_equal_models_have_nothing_to_learn(self):
        batch = random_batch()
        batch = batch._replace(teacher=batch.student)
        value, gradient = student_gradient(TemperatureKD(3.0), batch)
        assert value == 0
        assert_close(gradient, 0)


class TestKDLoss:
    def test_the_mask_of_keras_is_found(self):
        """Keras hands a mask on with the tensor it belongs to."""
        student, teacher, _ = random_batch()
        student[1] = -1.0
        masked = keras.layers.Masking(-1.0)(student[None])
        loss = TemperatureKD(3.0)
        mask = np.array([[True, False, True, True]])
        assert_close(loss(masked, teacher[None]), loss(student[None], teacher[None], mask=mask))
        assert_close(
            loss(masked, teacher[None], mask=np.ones((1, 4), bool)), loss(student, teacher)
        )

    @pytest.mark.parametrize("shape", [(4,), (4, 1)])
    def test_one_mask_value_and_one_weight_per_sample(self, shape):
        batch, mask, weights = random_batch(), np.array([1, 0, 1, 1]), np.array([1, 1, 0.5, 2])
        values = np.asarray(of_batch(TemperatureKD(3.0, reduction="none"), batch))
        total = of_batch(
            TemperatureKD(3.0, reduction="sum"), batch, weights.reshape(shape), mask.reshape(shape)
        )
        assert_close(total, np.sum(values * weights * mask))

    def test_a_mask_of_another_length_is_refused(self):
        with pytest.raises(ValueError, match="one value per position"):
            of_batch(TemperatureKD(), random_batch(), mask=np.ones(3, bool))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_a_subclass_gets_float32_logits_cleared_where_masked(self, dtype):
        class Recorded(KDLoss):
            def call(self, lesson):
                self.received = lesson.student.logits, lesson.teacher.logits
                return lesson.student.logits[..., 0]

        loss, (student, teacher, _) = Recorded(), random_batch()
        mask = np.array([True, False, True, True])
        loss(keras.ops.cast(student, dtype), keras.ops.cast(teacher, dtype), mask=mask)
        for received, given in zip(loss.received, (student, teacher), strict=True):
            assert keras.backend.standardize_dtype(received.dtype) == "float32"
            assert_close(received, given * mask[:, None], rtol=1e-2)

    def test_a_subclass_without_call_says_so(self):
        with pytest.raises(NotImplementedError, match="KDLoss must implement `call`"):
            of_batch(KDLoss(), random_batch())


class TestLabelCrossentropy:
    @pytest.mark.parametrize("reduction", ["none", "sum", "sum_over_batch_size"])
    def test_equals_the_losses_of_keras(self, reduction):
        logits, _, ids = random_batch((2, 3))
        arguments = {"from_logits": True, "reduction": reduction}
        sparse = keras.losses.SparseCategoricalCrossentropy(**arguments)
        dense = keras.losses.CategoricalCrossentropy(**arguments)
        one_hot = np.eye(5, dtype="float32")[ids]
        loss = LabelCrossentropy(reduction=reduction)
        for labels, expected in [
            (ids, sparse(ids, logits)),
            (ids[..., None], sparse(ids, logits)),
            (ids.astype("float32"), sparse(ids, logits)),
            (one_hot, dense(one_hot, logits)),
            (0.9 * one_hot + 0.02, dense(0.9 * one_hot + 0.02, logits)),
        ]:
            assert_close(loss(labels, logits), expected)

    def test_values(self):
        logits, _, ids = random_batch()
        expected, _ = reference.label_crossentropy(ids, logits)
        assert_close(LabelCrossentropy()(ids, logits), expected.mean())

    def test_class_ids_above_256_survive_bfloat16_logits(self):
        logits = keras.ops.cast(np.eye(300)[[257]] * 20, "bfloat16")
        assert float(LabelCrossentropy()(np.array([257]), logits)) < 1e-3

    def test_config_round_trip(self):
        loss = LabelCrossentropy(reduction="sum", name="renamed")
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        logits, _, ids = random_batch()
        assert copy.name == "renamed"
        assert_close(copy(ids, logits), loss(ids, logits))


def test_class_ids_above_256_survive_bfloat16_models():
    teacher = np.eye(300)[[257]] * 20
    student = keras.ops.zeros((1, 300), dtype="bfloat16")
    values, _ = reference.ats(np.zeros((1, 300)), teacher, [257], 4.0, 2.0)
    loss = AsymmetricTemperatureKD(4.0, 2.0)
    assert_close(
        loss(student, keras.ops.cast(teacher, "bfloat16"), labels=np.array([257])), values.mean()
    )
