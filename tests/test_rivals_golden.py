"""The rivals of ATS agree with the code that their authors published."""

import numpy as np
from backends import cases_in_turn
from golden_cases import assert_matches, each_case
from gradients import compiled_value_and_gradient as value_and_gradient

from keras_ats import losses
from keras_ats.adjustments import Standardize

pytestmark = cases_in_turn(
    "each case is a value against a reference, whose arithmetic the backends share"
)


@each_case("dkd_mdistiller")
def test_decoupled_kd(case):
    assert_loss_matches(decoupled_kd(case.hyperparameters), case)


@each_case("dkd_total_mdistiller")
def test_decoupled_kd_on_top_of_the_labels_while_it_warms_up(case):
    parts = case.hyperparameters
    kd_weight = min(parts["epoch"] / parts["warmup"], 1.0)
    assert_objective_matches(decoupled_kd(parts), parts["ce_weight"], kd_weight, case)


@each_case("logit_std_dkd")
def test_decoupled_kd_on_standardized_logits(case):
    assert_loss_matches(decoupled_kd(case.hyperparameters, adjustment=Standardize()), case)


@each_case("kd_total_mdistiller")
def test_temperature_kd_on_top_of_the_labels(case):
    parts = case.hyperparameters
    assert_objective_matches(
        losses.TemperatureKD(parts["T"]), parts["ce_weight"], parts["kd_weight"], case
    )


@each_case("nkd_clskd")
def test_normalized_kd(case):
    parts = case.hyperparameters
    assert_loss_matches(losses.NormalizedKD(parts["T"], wrong_weight=parts["gamma"]), case)


@each_case("rld_zjuswj")
def test_refined_logit_kd(case):
    parts = case.hyperparameters
    loss = losses.RefinedLogitKD(
        parts["T"],
        correct_temperature=parts["alpha_T"],
        correct_weight=parts["alpha"],
        wrong_weight=parts["beta"],
        adjustment=Standardize() if parts["logit_stand"] else None,
    )
    assert_loss_matches(loss, case)


@each_case("dist_hunto")
def test_dist(case):
    parts = case.hyperparameters
    assert_loss_matches(losses.DIST(parts["tau"], parts["beta"], parts["gamma"]), case)


@each_case("mlld_parts")
def test_relation_kd(case):
    assert_loss_matches(losses.RelationKD(case.hyperparameters["T"]), case)


@each_case("mlld_parts")
def test_each_part_of_relation_kd(case):
    temperature = case.hyperparameters["T"]
    for name, loss in (
        ("bc", losses.RelationKD(temperature, class_weight=0.0)),
        ("cc", losses.RelationKD(temperature, batch_weight=0.0)),
    ):
        value = loss(case["student_logits"], case["teacher_logits"])
        np.testing.assert_allclose(float(value), case[name], rtol=2e-3, atol=1e-4)


@each_case("logit_mse_kddata")
def test_logit_mse(case):
    assert_loss_matches(losses.LogitMSE(), case)


@each_case("label_smoothing")
def test_label_smoothing(case):
    parts = case.hyperparameters
    spread = "wrong" if parts["convention"] else "all"
    assert_loss_matches(losses.LabelSmoothing(parts["eps"], spread=spread), case)


def decoupled_kd(parts, **kwargs):
    return losses.DecoupledKD(parts["T"], parts["alpha"], parts["beta"], **kwargs)


def assert_loss_matches(loss, case):
    assert_objective_matches(loss, 0.0, 1.0, case)


def assert_objective_matches(loss, student_weight, kd_weight, case):
    student_loss = losses.LabelCrossentropy()

    def objective(student):
        total = kd_weight * loss(student, case["teacher_logits"], labels=case["labels"])
        if student_weight:
            total += student_weight * student_loss(case["labels"], student)
        return total

    assert_matches(*value_and_gradient(objective, case["student_logits"]), case)
