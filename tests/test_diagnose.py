"""`diagnose` and `suggest_temperatures`: numbers against float64 NumPy, data in any form."""

import json
import re

import keras
import models
import numpy as np
import pytest
import reference
from backends import on_one_backend

import keras_ats
from keras_ats import diagnose, diagnostics, metrics, suggest_temperatures

SAMPLES, CLASSES = 60, 6


@pytest.fixture
def said(rng):
    labels = rng.integers(0, CLASSES, SAMPLES)
    logits = rng.normal(0, 3, (SAMPLES, CLASSES))
    logits[np.arange(SAMPLES), labels] += 9
    return logits.astype("float32"), labels


def quiet(teacher, data, **options):
    return diagnose(teacher, data, verbose=False, **options)


@on_one_backend("NumPy on logits")
def test_numbers_are_those_of_the_definitions(said):
    logits, labels = said
    found = quiet(logits, labels, temperatures=[1.0, 4.0]).teachers["teacher"]
    p = reference.softmax(logits)
    wrong = logits[labels[:, None] != np.arange(CLASSES)].reshape(SAMPLES, -1).astype("float64")
    own = logits[np.arange(SAMPLES), labels]
    expected = {
        "accuracy": np.mean(logits.argmax(-1) == labels),
        "likelihood": -np.log(p[np.arange(SAMPLES), labels]).mean(),
        "correct_logit": (own - wrong.mean(-1)).mean(),
        "wrong_spread": wrong.std(-1).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-6, err_msg=name)
    for softening, (correct, other) in zip(
        (*found.one_temperature, *found.ats), [(1, 1), (4, 4), (1.25, 0.75), (5, 3)], strict=True
    ):
        q = reference.asymmetric_softmax(logits, labels, correct, other)
        variance = reference.derived_variance(q, labels)
        statistics = {
            "correct_share": q[np.arange(SAMPLES), labels],
            "derived_average": reference.derived_average(q, labels),
            "derived_variance": variance,
            "derived_deviation": np.sqrt(variance),
            "inherent_variance": reference.inherent_variance(logits, labels, other),
            "entropy": -(q * np.log(q)).sum(-1),
        }
        for name, values in statistics.items():
            np.testing.assert_allclose(getattr(softening, name), values.mean(), rtol=1e-6)
    metric = metrics.ExpectedCalibrationError()
    metric.update_state(labels, logits)
    np.testing.assert_allclose(found.calibration.error, float(metric.result()), atol=1e-6)
    by_class = [np.mean((logits.argmax(-1) == labels)[labels == c]) for c in range(CLASSES)]
    np.testing.assert_allclose(found.class_accuracy, by_class)
    np.testing.assert_allclose(found.similarity.sum(-1), 1)


@on_one_backend("NumPy on logits")
def test_likeliest_temperature_and_adaptive_error(said):
    logits, labels = said
    found = quiet(logits, labels).teachers["teacher"]
    grid = np.exp(np.linspace(np.log(0.05), np.log(50), 4000))
    losses = [
        -reference.log_softmax(logits, one)[np.arange(SAMPLES), labels].mean() for one in grid
    ]
    np.testing.assert_allclose(found.best_temperature, grid[np.argmin(losses)], rtol=3e-3)
    ten_times = quiet(10 * logits, labels).teachers["teacher"]
    np.testing.assert_allclose(ten_times.best_temperature, 10 * found.best_temperature, rtol=3e-3)
    p = reference.softmax(logits)
    order = np.argsort(p.max(-1), kind="stable")
    bins = np.array_split(order, 15)
    gaps = [
        len(one) * abs(p.max(-1)[one].mean() - (logits.argmax(-1) == labels)[one].mean())
        for one in bins
    ]
    np.testing.assert_allclose(found.calibration.adaptive_error, sum(gaps) / SAMPLES, atol=1e-6)


@on_one_backend("NumPy on logits")
def test_suggested_temperatures_bring_both_numbers_where_they_are_wanted(said):
    logits, labels = said
    correct, wrong, reason = suggest_temperatures(2 * logits, labels, verbose=False)
    q = reference.asymmetric_softmax(2 * logits, labels, correct, wrong)
    share = q[np.arange(SAMPLES), labels].mean()
    np.testing.assert_allclose(share, 1 / CLASSES + 0.25 * (1 - 1 / CLASSES), atol=2e-3)
    found = quiet(2 * logits, labels).teachers["teacher"]
    np.testing.assert_allclose(found.wrong_spread / wrong, 1.15, rtol=1e-6)
    assert correct > wrong > 1
    assert f"{wrong:.2f}" in reason
    assert reason.count(". ") == 1
    # Logits twice as large want temperatures twice as high: the rule follows the teacher's scale.
    again = suggest_temperatures(4 * logits, labels, verbose=False)
    np.testing.assert_allclose(again[1], 2 * wrong, rtol=1e-6)
    # A teacher that is unsure already is not sharpened.
    unsure = suggest_temperatures(0.01 * logits, labels, verbose=False)
    assert unsure[:2] == (1.0, 1.0)


def test_a_model_says_what_its_logits_say_however_the_data_come(rng):
    x, y = models.features(rng, 20)
    teacher = models.sequential(softmax=True, name="t")
    logits = keras.ops.convert_to_numpy(keras_ats.views.at_logits(teacher)(x))
    expected = quiet(logits, y).to_dict()["teacher"]
    batches = [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], models.one_hot(y[16:]))]
    before = [weight.copy() for weight in teacher.get_weights()]
    for data in (
        (x, y),
        (x, y[:, None]),
        batches,
        models.batches(x, y, size=8),
    ):
        actual = quiet(teacher, data, batch_size=8).to_dict()["t"]
        for name in ("accuracy", "correct_logit", "wrong_spread", "best_temperature"):
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4)
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@on_one_backend("how many batches there are")
def test_a_pipeline_of_unknown_length_and_one_without_an_end(rng):
    tf = pytest.importorskip("tensorflow")
    x, y = models.features(rng, 8)
    teacher = models.sequential(softmax=True, name="t")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    filtered = dataset.filter(lambda x, y: True)
    for verbose in (False, True):
        report = keras_ats.diagnose(teacher, filtered, verbose=verbose)
        assert report.to_dict() == quiet(teacher, (x, y), batch_size=4).to_dict()

    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return x, y

    for endless in (dataset.repeat(), Endless()):
        with pytest.raises(ValueError, match="`data` never ends"):
            quiet(teacher, endless)


class FromBatch:
    """A teacher without a model: its logits come with the data, as a cache's do."""

    variables, output_names, shapes, supports_jit = (), ["logits"], keras_ats.Shapes(), True

    def prepare(self, needs):
        pass

    def split(self, x):
        return x["inputs"], x["logits"]

    def __call__(self, given):
        return keras_ats.Outputs(given)


@on_one_backend("no model is run")
def test_a_teacher_that_is_no_model(said):
    logits, labels = said
    data = ({"inputs": np.zeros((SAMPLES, 1)), "logits": logits}, labels)
    actual = quiet(FromBatch(), data).teachers["teacher"]
    assert actual.wrong_spread == quiet(logits, labels).teachers["teacher"].wrong_spread


@on_one_backend("no model is run")
def test_tokens_and_labels_that_do_not_count(said):
    logits, labels = said
    tokens = logits.reshape(10, 6, CLASSES), labels.reshape(10, 6).copy()
    tokens[1][0] = -100
    found = quiet(*tokens, ignore_label=-100).teachers["teacher"]
    assert found.samples == SAMPLES - 6
    assert found.wrong_spread == quiet(logits[6:], labels[6:]).teachers["teacher"].wrong_spread
    # Absent classes have no part in the spread.
    padded = np.concatenate([logits, np.full((SAMPLES, 2), -np.inf, "float32")], axis=-1)
    absent = quiet(padded, labels).teachers["teacher"]
    whole = quiet(logits, labels).teachers["teacher"]
    np.testing.assert_allclose(absent.wrong_spread, whole.wrong_spread)
    np.testing.assert_allclose(absent.plain.entropy, whole.plain.entropy)


@on_one_backend("a file is a file")
def test_report_side_by_side_printed_kept_and_saved(said, tmp_path):
    logits, labels = said
    report = quiet({"small": logits, "large <b>": 3 * logits}, labels)
    text = str(report)
    assert re.search(r"accuracy +\d\.\d+ +\d\.\d+", text)
    assert "large <b>: It is surer than it is right" in text
    numbers = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(numbers) == {"small", "large <b>"}
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 + 2
    assert "large &lt;b&gt;" in page
    assert "large <b>" not in page
    assert not re.search(r"(src|href)=.https?:", page)
    with pytest.raises(ValueError, match=r"must end in '\.html'"):
        report.save(tmp_path / "report.pdf")


@on_one_backend("figures are matplotlib's")
def test_figures_are_drawn(said, tmp_path):
    logits, labels = said
    report = quiet({"small": logits, "large": 3 * logits}, labels)
    images = np.zeros((SAMPLES, 4, 4, 1))
    figures = {
        "soft_targets": diagnostics.plot_soft_targets(report, [0, 1], [(1, 1), (4, 2)]),
        "images": diagnostics.plot_soft_targets(report, teacher="large", images=images),
        "curves": diagnostics.plot_temperature_curves(report),
        "logits": diagnostics.plot_logits(report),
        "reliability": diagnostics.plot_reliability(report),
        "similarity": diagnostics.plot_class_similarity(report),
    }
    heights = {"soft_targets": 2 * 2, "images": 3 * 4, "curves": 2, "logits": 2, "reliability": 2}
    for name, count in heights.items():
        assert len(figures[name].axes) == count
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
    curves = figures["curves"].axes[0].lines
    drawn = [line.get_ydata() for line in curves]
    expected = [one.derived_average for one in report.teachers["small"].one_temperature]
    np.testing.assert_allclose(drawn[0], expected)
    assert [line.get_linestyle() for line in curves] == ["-", "--"] * 2


@on_one_backend("whose labels are whose")
def test_labels_of_several_outputs(rng):
    x, y = models.features(rng, 12)
    teacher = models.two_outputs()
    expected = quiet(teacher, (x, y % 2), output="size").to_dict()
    for labels in ([y, y % 2], {"kind": y, "size": y % 2}):
        assert quiet(teacher, [(x, labels)], output="size").to_dict() == expected
    one = models.linear(name="t")
    assert quiet(one, [(x, {"t": y})]).to_dict() == quiet(one, (x, y)).to_dict()


def with_one(value):
    logits = np.zeros((4, 3))
    logits[2] = value
    return logits


@on_one_backend("errors come before any tensor")
@pytest.mark.parametrize(
    ("teacher", "data", "options", "error", "message"),
    [
        (with_one(np.nan), np.zeros(4), {}, ValueError, "NaN or infinity in 1 of 4 rows.* row 2"),
        (with_one(np.inf), np.zeros(4), {}, ValueError, "NaN or infinity in 1 of 4 rows"),
        (with_one(-np.inf), np.zeros(4), {}, ValueError, "NaN or infinity in 1 of 4 rows"),
        (with_one(0), np.array([0, 1, np.nan, 2]), {}, ValueError, "1 of 4 .* such as nan"),
        (with_one(0), np.arange(4) / 4, {}, ValueError, "3 of 4 .* such as 0.25"),
        (with_one(0), np.array(["a"] * 4), {}, ValueError, "4 of 4 .* such as 'a'"),
        (models.linear, "named", {}, ValueError, r"for \['kind'\].* such as y\['kind'\]"),
        (models.linear, "named", {"output": "kind"}, ValueError, "Expected: None, for it has only"),
        (models.two_outputs, "named", {}, ValueError, "several outputs.*Expected: the name"),
        (models.two_outputs, "named", {"output": "size"}, ValueError, "no labels for .* 'size'"),
        (models.two_outputs, "named", {"output": "x"}, ValueError, r"one of \['kind', 'size'\]"),
        ([models.linear, models.linear], "iterator", {}, TypeError, "used up by the first"),
        (np.zeros((4, 1)), np.zeros(4), {}, ValueError, "at least two classes"),
        (np.zeros((4, 3)), np.zeros(3), {}, ValueError, r"\(3,\) for logits of shape \(4, 3\)"),
        (np.zeros((4, 3)), np.arange(4), {}, ValueError, "from 0 to 2 .* from 0 to 3"),
        (np.zeros((4, 3)), None, {}, ValueError, "must have labels"),
        (models.linear, "data", {}, TypeError, "`data` must be"),
        (models.linear, (np.zeros((4, 5)), np.zeros(3)), {}, ValueError, "as many labels"),
        (models.linear, [], {}, ValueError, "no labelled sample"),
        (models.linear, [np.zeros((4, 5))], {}, TypeError, r"labels too; .* a tuple \(x, y\)"),
        (np.zeros((4, 3)), np.zeros(4), {"temperatures": []}, ValueError, "at least one temp"),
        ([], np.zeros(4), {}, ValueError, "at least one teacher"),
    ],
)
def test_what_cannot_be_looked_at_is_said(teacher, data, options, error, message):
    x, y = np.zeros((4, models.FEATURES), "float32"), np.arange(4) % 2
    made = {"named": [(x, {"kind": y})], "iterator": iter([(x, y)])}
    data = made.get(data, data) if isinstance(data, str) else data
    teacher = keras.tree.map_structure(lambda one: one() if callable(one) else one, teacher)
    with pytest.raises(error, match=message):
        quiet(teacher, data, **options)


@on_one_backend("errors come before any tensor")
def test_sigmoid_heads_have_no_wrong_classes(rng):
    x, y = models.features(rng, 4)
    teacher = keras.Sequential([keras.Input((models.FEATURES,)), keras.layers.Dense(3, "sigmoid")])
    with pytest.raises(ValueError, match="ends in sigmoid"):
        quiet(teacher, (x, y))


@on_one_backend("figures are matplotlib's")
def test_what_cannot_be_drawn_is_said(said):
    report = quiet(*said)
    with pytest.raises(TypeError, match="`report` must come from"):
        diagnostics.plot_logits({})
    with pytest.raises(ValueError, match="`teacher` is not in the report"):
        diagnostics.plot_soft_targets(report, teacher="other")
    with pytest.raises(ValueError, match="`samples` must be from 0 to 59"):
        diagnostics.plot_soft_targets(report, [60])
    with pytest.raises(ValueError, match="`temperatures` must be pairs"):
        diagnostics.plot_soft_targets(report, [0], [(1.0,)])
