"""Our losses agree with the code that the methods' authors published."""

import numpy as np
import pytest
import reference
from backends import cases_in_turn
from golden_cases import assert_matches, each_case
from gradients import compiled_value_and_gradient as value_and_gradient

from keras_ats import losses, ops

pytestmark = cases_in_turn(
    "each case is a value against a reference, whose arithmetic the backends share"
)


@each_case("kd_mdistiller", "kd_repdistiller")
def test_temperature_kd(case):
    loss = losses.TemperatureKD(case.hyperparameters["T"])
    assert_matches(
        *value_and_gradient(
            lambda student: loss(student, case["teacher_logits"]), case["student_logits"]
        ),
        case,
    )


@each_case("kd_ce_clskd")
def test_cross_entropy_form_of_kd(case):
    alpha = case.hyperparameters["alpha"]
    loss = losses.SoftTargetKD(case.hyperparameters["T"], divergence="cross_entropy")
    assert_matches(
        *value_and_gradient(
            lambda student: alpha * loss(student, case["teacher_logits"]), case["student_logits"]
        ),
        case,
    )


@each_case("ats_lxcnju")
def test_objective_of_the_ats_authors(case):
    correct, wrong, student_temperature, kd_weight = (
        case.hyperparameters[name] for name in ("tau1", "tau2", "s_tau", "lam")
    )
    kd_loss = losses.AsymmetricTemperatureKD(
        correct, wrong, student_temperature=student_temperature
    )
    student_loss = losses.LabelCrossentropy()

    def objective(student):
        return (1 - kd_weight) * student_loss(case["labels"], student) + kd_weight * kd_loss(
            student, case["teacher_logits"], labels=case["labels"]
        )

    assert_matches(*value_and_gradient(objective, case["student_logits"]), case)


@each_case("ats_lxcnju")
def test_soft_targets_of_the_ats_authors(case):
    temperatures = case.hyperparameters["tau1"], case.hyperparameters["tau2"]
    targets = ops.asymmetric_softmax(case["teacher_logits"], case["labels"], *temperatures)
    np.testing.assert_allclose(targets, case["teacher_probs"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "correct_factor", "wrong_factor"), [("ts", 1.0, 1.0), ("ats", 1.25, 0.75)]
)
@each_case("ats_fig7_metrics")
def test_wrong_class_statistics_of_the_ats_authors(case, suffix, correct_factor, wrong_factor):
    temperature, labels = case.hyperparameters["tau"], case["labels"]
    targets = ops.asymmetric_softmax(
        case["teacher_logits"], labels, correct_factor * temperature, wrong_factor * temperature
    )
    average = np.asarray(ops.derived_average(targets, labels))
    deviation = np.sqrt(np.asarray(ops.derived_variance(targets, labels)))
    for name, rows in (("eq", average), ("sigmaq", deviation)):
        np.testing.assert_allclose(rows, case[f"{name}_rows_{suffix}"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(rows.mean(), case[f"{name}_{suffix}"], rtol=0, atol=1e-6)


@each_case("kd_mdistiller", "kd_repdistiller")
def test_reference_of_kd(case):
    values, slopes = reference.kd(
        case["student_logits"], case["teacher_logits"], case.hyperparameters["T"]
    )
    assert_reference_matches(values, slopes, case)


@each_case("ats_lxcnju")
def test_reference_of_ats(case):
    correct, wrong, student_temperature, kd_weight = (
        case.hyperparameters[name] for name in ("tau1", "tau2", "s_tau", "lam")
    )
    student, labels = case["student_logits"], case["labels"]
    hard, hard_slopes = reference.label_crossentropy(labels, student)
    soft, soft_slopes = reference.ats(
        student, case["teacher_logits"], labels, correct, wrong, student_temperature
    )
    assert_reference_matches(
        (1 - kd_weight) * hard + kd_weight * soft,
        (1 - kd_weight) * hard_slopes + kd_weight * soft_slopes,
        case,
    )


def assert_reference_matches(values, slopes, case):
    """float64 against float64, so all but exact."""
    np.testing.assert_allclose(values.mean(), case["loss"], rtol=1e-9, atol=1e-12)
    expected = case["grad_student"]
    slack = 1e-8 * np.max(np.abs(expected)) + 1e-12
    np.testing.assert_allclose(slopes / len(slopes), expected, rtol=0, atol=slack)
