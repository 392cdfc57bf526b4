"""Temperature rules and adjustments agree with the code that was published for them."""

import numpy as np
import pytest
from backends import cases_in_turn
from golden_cases import FOLDER, assert_matches, each_case
from gradients import compiled_value_and_gradient as value_and_gradient
from keras import ops

import keras_ats
from keras_ats import Lesson, Outputs, losses, temperatures
from keras_ats.adjustments import Smooth, Standardize, Swap

pytestmark = cases_in_turn(
    "each case is a value against a reference, whose arithmetic the backends share"
)


def check(loss, case):
    """Value and student gradient of `loss` equal those stored with `case`."""
    assert_matches(
        *value_and_gradient(
            lambda student: loss(student, case["teacher_logits"], labels=case["labels"]),
            case["student_logits"],
        ),
        case,
    )


@each_case("ttm_zkxufo", "wttm_zkxufo")
def test_transformed_teacher(case):
    weighted = case.id.startswith("wttm")
    temperature = 1 / case.hyperparameters["l"]
    check(losses.TransformedTeacherKD(temperature, weighted=weighted), case)


@each_case("logit_std_kd")
def test_standardised_logits(case):
    check(losses.TemperatureKD(case.hyperparameters["T"], adjustment=Standardize()), case)


@each_case("la_swap_rld")
def test_swap_before_distillation(case):
    check(losses.TemperatureKD(case.hyperparameters["T"], adjustment=Swap()), case)


@each_case("prob_shift_textbrewer")
def test_swap(case):
    swapped = Swap().adjust_logits(ops.convert_to_tensor(case["teacher_logits"]), case["labels"])
    np.testing.assert_array_equal(ops.convert_to_numpy(swapped), case["shifted"])
    tokens = ops.convert_to_tensor(case["teacher_logits"][None])
    # Every third label is -100, an ignored one: these rows must come back unchanged.
    swapped = Swap().adjust_logits(tokens, case["labels3d"].reshape(1, -1))
    np.testing.assert_array_equal(ops.convert_to_numpy(swapped)[0], case["shifted3d"])


@each_case("ka_lsr_kdlib")
def test_smoothed_labels(case):
    logits = ops.convert_to_tensor(case["teacher_logits"])
    log_targets = keras_ats.ops.temperature_log_softmax(logits, case.hyperparameters["T"])
    smooth = Smooth(case.hyperparameters["correct_prob"])
    targets = ops.exp(smooth.adjust_targets(log_targets, logits, case["labels"]))
    np.testing.assert_allclose(ops.convert_to_numpy(targets), case["probs_lsr"], atol=1e-6)


def dynamic_rule(case):
    """The temperature rule that a case of TextBrewer's describes."""
    temperature, bias = case.hyperparameters["tau0"], case.hyperparameters["beta"]
    if "gamma" in case.hyperparameters:
        return temperatures.FocalWeighted(temperature, bias, case.hyperparameters["gamma"])
    return temperatures.ConfidenceWeighted(temperature, bias)


@each_case("dtd_flsw_textbrewer", "dtd_cwsm_textbrewer")
def test_dynamic_temperatures(case):
    teacher = ops.convert_to_tensor(case["teacher_used"].astype("float32"))
    student = ops.convert_to_tensor(case["student_logits"])
    values = ops.convert_to_numpy(dynamic_rule(case)(Lesson(Outputs(student), Outputs(teacher))))
    np.testing.assert_allclose(values[:, 0], case["temperature"], rtol=1e-4)


@each_case("dtd_flsw_textbrewer", "dtd_cwsm_textbrewer")
def test_dynamic_temperature_kd(case):
    adjustment = Swap() if case.hyperparameters["shift"] else None
    check(losses.DynamicTemperatureKD(dynamic_rule(case), adjustment=adjustment), case)


@each_case("dtd_hazard_textbrewer")
def test_temperatures_that_went_negative_stop_at_the_minimum(case):
    student, teacher = (ops.convert_to_tensor(case[f"{x}_logits"]) for x in ("student", "teacher"))
    temperature, bias = case.hyperparameters["tau0"], case.hyperparameters["beta"]
    rules = {
        "flsw": temperatures.FocalWeighted(temperature, bias, case.hyperparameters["gamma"]),
        "cwsm": temperatures.ConfidenceWeighted(temperature, bias),
    }
    for name, rule in rules.items():
        values = ops.convert_to_numpy(rule(Lesson(Outputs(student), Outputs(teacher))))[:, 0]
        expected = np.maximum(case[f"temperature_{name}"], 1.0)
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=2e-3)
        loss = losses.DynamicTemperatureKD(rule)
        value, gradient = value_and_gradient(lambda z, loss=loss: loss(z, teacher), student)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


@each_case("ctkd_zhengli97")
def test_curriculum_temperature(case):
    h = case.hyperparameters
    rule = temperatures.Learned(
        h["t_start"],
        h["t_end"],
        raw_temperature=h["global_T"],
        gradient_factor=h["lambda_"],
    )
    kd_loss, student_loss = losses.CurriculumTemperatureKD(rule), losses.LabelCrossentropy()

    def objective(student):
        return h["gamma"] * student_loss(case["labels"], student) + h["alpha"] * kd_loss(
            student, case["teacher_logits"]
        )

    assert_matches(*value_and_gradient(objective, case["student_logits"]), case)
    temperature = ops.convert_to_numpy(rule(None))
    np.testing.assert_allclose(temperature, case["temperature"], rtol=1e-5)
    gradient = raw_temperature_gradient(kd_loss, rule, case)
    np.testing.assert_allclose(
        h["alpha"] * gradient, case["grad_global_T"], rtol=1e-2, atol=1e-5 + 1e-4 * case["loss"]
    )


def raw_temperature_gradient(kd_loss, rule, case):
    """Gradient of the loss in the learned variable, reversal included."""
    import keras

    def loss_of(raw):
        with keras.StatelessScope(state_mapping=[(rule.raw_temperature, raw)]):
            return kd_loss(case["student_logits"], case["teacher_logits"])

    return value_and_gradient(loss_of, np.float32(case.hyperparameters["global_T"]))[1]


@pytest.mark.parametrize("epochs", [5, 10])
def test_gradient_reversal_schedule(epochs):
    with np.load(FOLDER / "ctkd_schedule.npz") as stored:
        expected = stored[f"cosine_{epochs}"]
    schedule = keras_ats.callbacks.GradientReversalSchedule(epochs)
    np.testing.assert_allclose([schedule.factor(e) for e in range(31)], expected, atol=1e-12)
