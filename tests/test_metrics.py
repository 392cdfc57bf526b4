"""Metrics of lessons: the value of all data at once, whatever the batches, weights and masks."""

import keras
import models
import numpy as np
import pytest
import reference
from backends import cases_in_turn, on_one_backend
from golden_cases import each_case

import keras_ats
from keras_ats import Distiller, Lesson, Outputs, metrics
from keras_ats.temperatures import Asymmetric

SAMPLES, CLASSES = 24, 7
ATS = Asymmetric(4.0, 2.0)


def softened(logits, labels, temperature):
    if temperature is ATS:
        return reference.asymmetric_softmax(logits, labels, 4.0, 2.0)
    return reference.softmax(logits, temperature)


def entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def calibration_error(probabilities, labels, weights, bins=15):
    """From the definition, bin by bin, float64."""
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    total = 0.0
    for one in range(bins):
        upper = 2.0 if one == bins - 1 else (one + 1) / bins
        inside = (confidence >= one / bins) & (confidence < upper)
        if weights[inside].sum():
            means = [
                np.average(each[inside], weights=weights[inside]) for each in (confidence, right)
            ]
            total += weights[inside].sum() / weights.sum() * abs(means[0] - means[1])
    return total


# Metric, and its value at each position in float64.
OF_LABELS = {
    "average": (
        lambda: metrics.DerivedAverage(2.0),
        lambda f, y: reference.derived_average(softened(f, y, 2.0), y),
    ),
    "average_ats": (
        lambda: metrics.DerivedAverage(ATS),
        lambda f, y: reference.derived_average(softened(f, y, ATS), y),
    ),
    "variance": (
        lambda: metrics.DerivedVariance(2.0),
        lambda f, y: reference.derived_variance(softened(f, y, 2.0), y),
    ),
    "deviation_ats": (
        lambda: metrics.DerivedVariance(ATS, deviation=True),
        lambda f, y: np.sqrt(reference.derived_variance(softened(f, y, ATS), y)),
    ),
    "inherent": (
        lambda: metrics.InherentVariance(2.0),
        lambda f, y: reference.inherent_variance(f, y, 2.0),
    ),
    "inherent_ats": (
        lambda: metrics.InherentVariance(ATS),
        lambda f, y: reference.inherent_variance(f, y, 2.0),
    ),
    "entropy": (
        lambda: metrics.SoftTargetEntropy(2.0),
        lambda f, y: entropy(softened(f, y, 2.0)),
    ),
}


@pytest.fixture
def batch(rng):
    student, teacher = rng.normal(0, 4, (2, SAMPLES, CLASSES)).astype("float32")
    weights = rng.choice([0.0, 1.0, 7.0], SAMPLES).astype("float32")
    return student, teacher, rng.integers(0, CLASSES, SAMPLES), weights


def value(metric):
    return float(keras.ops.convert_to_numpy(metric.result()))


def in_batches(metric, *arrays):
    """Three batches, the last one smaller; the same in every test, for JAX compiles each shape."""
    for start in range(0, SAMPLES, 10):
        metric.update_state(*(array[start : start + 10] for array in arrays))
    return value(metric)


@cases_in_turn("all metrics add up by the code of their base class")
@pytest.mark.parametrize("name", OF_LABELS)
def test_the_value_of_all_at_once_in_batches_of_any_size(name, batch):
    _, teacher, labels, weights = batch
    make, expected = OF_LABELS[name]
    each = expected(teacher, labels)
    np.testing.assert_allclose(
        in_batches(make(), labels, teacher, weights), np.average(each, weights=weights), rtol=2e-5
    )
    metric = make()
    metric.update_state(labels, teacher)
    np.testing.assert_allclose(value(metric), each.mean(), rtol=2e-5)
    metric.reset_state()
    assert value(metric) == 0


@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_error(bins, batch):
    _, teacher, _, weights = batch
    rng = np.random.default_rng(3)
    # Right about half of the time, so that bins differ.
    labels = np.where(rng.random(SAMPLES) < 0.6, teacher.argmax(-1), rng.integers(0, 7, SAMPLES))
    for given in (weights, np.ones(SAMPLES, "float32")):
        expected = calibration_error(reference.softmax(teacher), labels, given, bins)
        assert expected > 0.01
        actual = in_batches(metrics.ExpectedCalibrationError(bins), labels, teacher, given)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_agreement(k, batch):
    student, teacher, _, weights = batch
    top = [np.argsort(-logits, axis=-1)[:, :k] for logits in (student, teacher)]
    shares = [len(set(a) & set(b)) / k for a, b in zip(*top, strict=True)]
    actual = in_batches(metrics.TeacherAgreement(k), teacher, student, weights)
    np.testing.assert_allclose(actual, np.average(shares, weights=weights), rtol=1e-5)
    # Two models that say nothing but NaN do not agree.
    assert np.isnan(in_batches(metrics.TeacherAgreement(k), teacher * np.nan, student, weights))


def test_divergence(batch):
    student, teacher, _, weights = batch
    each = reference.kl(reference.log_softmax(teacher, 3.0), reference.log_softmax(student, 3.0))
    actual = in_batches(metrics.TeacherDivergence(3.0), teacher, student, weights)
    np.testing.assert_allclose(actual, np.average(each, weights=weights), rtol=2e-5)


def test_variance_is_made_of_the_average_and_the_inherent_variance(batch):
    """v(q) = (C - 1)^2 e(q)^2 v(q~), sample by sample, and the decomposition of the loss."""
    student, teacher, labels, _ = batch
    for temperature in (2.0, ATS):
        for row in range(3):
            rows, label = teacher[row : row + 1], labels[row : row + 1]
            v, e, inherent = (
                in_batches(
                    metric(temperature), np.repeat(label, SAMPLES), np.repeat(rows, SAMPLES, 0)
                )
                for metric in (
                    metrics.DerivedVariance,
                    metrics.DerivedAverage,
                    metrics.InherentVariance,
                )
            )
            np.testing.assert_allclose(v, (CLASSES - 1) ** 2 * e**2 * inherent, rtol=1e-5)
    p, log_q = softened(teacher, labels, ATS), reference.log_softmax(student)
    parts = keras_ats.ops.decompose_kd(p.astype("float32"), log_q.astype("float32"), labels)
    actual = [keras.ops.convert_to_numpy(part) for part in parts]
    for one, expected in zip(actual, reference.decomposition(p, log_q, labels), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(actual), -(p * log_q).sum(-1), rtol=1e-5)


@on_one_backend("test_golden.py has the functions on each; each case has a shape of its own")
@each_case("ats_fig7_metrics")
def test_numbers_of_the_authors_figure(case):
    """Their figure averages the deviation; their temperatures are 1.25 and 0.75 times tau."""
    tau, teacher, labels = case.hyperparameters["tau"], case["teacher_logits"], case["labels"]
    for ending, rule in (("ts", tau), ("ats", Asymmetric(1.25 * tau, 0.75 * tau))):
        for metric, name in (
            (metrics.DerivedAverage(rule), "eq"),
            (metrics.DerivedVariance(rule, deviation=True), "sigmaq"),
        ):
            metric.update_state(labels, teacher)
            np.testing.assert_allclose(
                value(metric), case[f"{name}_{ending}"], rtol=2e-4, atol=2e-7
            )


def test_what_does_not_count_may_hold_anything(batch):
    _, teacher, labels, weights = batch
    spoilt, wrong_labels = teacher.copy(), labels.copy()
    spoilt[weights == 0] = np.nan
    wrong_labels[weights == 0] = 255
    for metric in (metrics.DerivedVariance, metrics.ExpectedCalibrationError):
        clean, dirty, marked = metric(), metric(), metric(ignore_label=255)
        expected = in_batches(clean, labels, teacher, weights)
        np.testing.assert_allclose(in_batches(dirty, wrong_labels, spoilt, weights), expected)
        counted = np.where(weights == 0, 1, weights)
        np.testing.assert_allclose(in_batches(marked, wrong_labels, spoilt, counted), expected)
        bad = metric()
        bad.update_state(np.array([0, 9, 1]), teacher[:3])
        assert np.isnan(value(bad))


def test_masked_tokens_and_weights_of_samples(rng):
    logits = rng.normal(size=(4, 6, CLASSES)).astype("float32")
    labels = rng.integers(0, CLASSES, (4, 6))
    mask = rng.random((4, 6)) < 0.6
    weights = np.array([1.0, 2.0, 0.0, 3.0], "float32")
    each = reference.derived_variance(reference.softmax(logits), labels)
    said = Outputs(keras.ops.convert_to_tensor(logits), mask=keras.ops.convert_to_tensor(mask))
    metric = metrics.DerivedVariance()
    metric.update_lesson(Lesson(said, said, labels, weights))
    np.testing.assert_allclose(
        value(metric), np.average(each, weights=mask * weights[:, None]), rtol=2e-5
    )


def test_soft_labels_and_probabilities(batch):
    _, teacher, labels, _ = batch
    ids, rows, probabilities = (metrics.DerivedVariance(ATS) for _ in range(3))
    probabilities.from_logits = False
    centred = teacher - teacher.mean(-1, keepdims=True)
    expected = in_batches(ids, labels, centred)
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    np.testing.assert_allclose(in_batches(rows, one_hot, centred), expected, rtol=1e-5)
    actual = in_batches(probabilities, labels, reference.softmax(teacher).astype("float32"))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_in_a_distiller_under_jit_and_from_its_file(rng, tmp_path):
    x, y = models.features(rng, 20)
    teacher, student = models.sequential(softmax=True), models.linear()
    kd_loss = keras_ats.losses.AsymmetricTemperatureKD(4, 2)
    distiller = Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        kd_loss=kd_loss,
        metrics=[metrics.ExpectedCalibrationError(name="as_keras_does")],
        distillation_metrics=[
            metrics.DerivedVariance(kd_loss.temperature),
            metrics.DerivedAverage(2.0, of="student"),
            metrics.ExpectedCalibrationError(5, of="student"),
            metrics.TeacherAgreement(2),
            metrics.TeacherDivergence(),
        ],
    )
    logs = distiller.fit(x, y, batch_size=8, verbose=0).history
    said = [
        keras.ops.convert_to_numpy(keras_ats.views.at_logits(model)(x))
        for model in (student, teacher)
    ]
    expected = {
        "derived_variance": reference.derived_variance(
            reference.asymmetric_softmax(said[1], y, 4.0, 2.0), y
        ).mean(),
        "student_derived_average": reference.derived_average(
            reference.softmax(said[0], 2.0), y
        ).mean(),
        "student_expected_calibration_error": calibration_error(
            reference.softmax(said[0]), y, np.ones(20), 5
        ),
        "as_keras_does": calibration_error(reference.softmax(said[0]), y, np.ones(20)),
        "teacher_divergence": reference.kl(
            reference.log_softmax(said[1]), reference.log_softmax(said[0])
        ).mean(),
    }
    for name, number in expected.items():
        np.testing.assert_allclose(logs[name][0], number, rtol=1e-4, err_msg=name)
    assert 0 < logs["teacher_agreement"][0] <= 1
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    again = loaded.fit(x, y, batch_size=8, verbose=0).history
    for name in [*expected, "teacher_agreement"]:
        np.testing.assert_allclose(again[name], logs[name], rtol=1e-5)


def test_a_schedule_of_the_losses_temperature_is_followed(rng):
    x, y = models.features(rng, 8)
    kd_loss = keras_ats.losses.AsymmetricTemperatureKD(4, 2)
    teacher = models.sequential()
    distiller = Distiller(teacher, models.linear())
    distiller.compile(
        "sgd", kd_loss=kd_loss, distillation_metrics=[metrics.DerivedAverage(kd_loss.temperature)]
    )
    logits = keras.ops.convert_to_numpy(teacher(x))
    for correct in (4.0, 1.0):
        kd_loss.correct_temperature.assign(correct)
        (logged,) = distiller.fit(x, y, verbose=0).history["derived_average"]
        targets = reference.asymmetric_softmax(logits, y, correct, 2.0)
        np.testing.assert_allclose(logged, reference.derived_average(targets, y).mean(), rtol=1e-5)


def test_several_outputs_go_by_name(batch):
    student, teacher, labels, _ = batch
    lesson = Lesson(
        Outputs({"kind": student, "size": student}),
        Outputs({"kind": teacher, "size": student}),
        {"kind": labels, "size": labels},
    )
    named = metrics.DerivedAverage(output="kind")
    named.update_lesson(lesson)
    expected = reference.derived_average(reference.softmax(teacher), labels).mean()
    np.testing.assert_allclose(value(named), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"several.*'kind', 'size'"):
        metrics.DerivedAverage().update_lesson(lesson)


@pytest.mark.parametrize(
    ("metric", "arrays", "message"),
    [
        (metrics.DerivedAverage, (None, np.zeros((2, 3))), "needs labels"),
        (lambda: metrics.TeacherAgreement(4), (np.zeros((2, 3)),) * 2, "`k` must be at most"),
        (
            lambda: metrics.DerivedAverage(ignore_label=1),
            (np.eye(3)[:2], np.zeros((2, 3))),
            "`ignore_label` is a class id",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(metric, arrays, message):
    with pytest.raises(ValueError, match=message):
        metric().update_state(*arrays)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.DerivedVariance(ATS, deviation=True, of="student", ignore_label=255),
        metrics.ExpectedCalibrationError(7, 2.0, from_logits=False),
        metrics.TeacherAgreement(3, output="kind"),
        metrics.TeacherDivergence(4.0),
    ],
    ids=lambda metric: metric.name,
)
def test_configs_come_back(metric):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
