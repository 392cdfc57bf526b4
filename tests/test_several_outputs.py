"""Models with several outputs: paired by name, named and logged as plain Keras does."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from models import FEATURES

import keras_ats
from keras_ats import losses

pytestmark = cases_in_turn("names and structures are sorted out before a backend sees a tensor")

UNITS = {"a": 3, "b": 3, "c": 2}
ENDS = {"a": "softmax", "b": "softmax", "c": "sigmoid"}


def model(names, form="list", ends=ENDS):
    """One Dense layer for each output."""
    inputs = keras.Input((FEATURES,))
    outputs = {name: layers.Dense(UNITS[name], ends[name], name=name)(inputs) for name in names}
    return keras.Model(inputs, outputs if form == "dict" else list(outputs.values()))


def labels(rng):
    y = {name: rng.integers(3, size=16) for name in "ab"}
    return y | {"c": rng.integers(2, size=(16, 2))}


def supervised(name, y, z):
    if ENDS[name] == "sigmoid":
        return models.binary_cross_entropy(y, z).mean()
    return models.cross_entropy(models.one_hot(y), z).mean()


def taught(name, y, z, f):
    if ENDS[name] == "sigmoid":
        return models.bernoulli_kd(y, z, f).mean()
    return models.ats(models.one_hot(y), z, f).mean()


def kd(names):
    by_family = {"softmax": losses.AsymmetricTemperatureKD, "sigmoid": losses.BernoulliKD}
    return {name: by_family[ENDS[name]](4, 2) for name in names}


def compiled(teacher, student, kd_loss, loss="auto", **options):
    distiller = keras_ats.Distiller(teacher, student)
    options = {"evaluate_teacher": True, "run_eagerly": True, **options}
    distiller.compile("sgd", loss, kd_loss, **options)
    return distiller


def evaluated(distiller, x, y):
    return distiller.evaluate(x, y, verbose=0, return_dict=True)


def given(y, names, form):
    return {name: y[name] for name in names} if form == "dict" else [y[name] for name in names]


@pytest.mark.parametrize("student_form", ["list", "dict"])
@pytest.mark.parametrize("teacher_form", ["list", "dict"])
@pytest.mark.parametrize(
    ("of_teacher", "of_student", "distilled"),
    [
        ("ba", "ab", "ab"),
        ("cba", "ab", "b"),
        ("b", "ab", "b"),
        ("cab", "bc", "cb"),
        ("ab", "b", "b"),
    ],
    ids="-".join,
)
def test_are_paired_by_name(teacher_form, student_form, of_teacher, of_student, distilled, rng):
    x, _ = models.features(rng)
    y = labels(rng)
    teacher, student = model(of_teacher, teacher_form), model(of_student, student_form)
    distiller = compiled(teacher, student, kd(distilled))
    f = {name: models.dense_logits(teacher, x, name) for name in of_teacher}
    z = {name: models.dense_logits(student, x, name) for name in of_student}
    expected = sum(supervised(name, y[name], z[name]) for name in of_student)
    terms = {name: taught(name, y[name], z[name], f[name]) for name in distilled}
    logs = evaluated(distiller, x, given(y, of_student, student_form))
    assert logs["student_loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["kd_loss"] == pytest.approx(np.mean(list(terms.values())), rel=1e-5)
    if len(terms) > 1:
        for name, value in terms.items():
            assert logs[f"{name}_kd_loss"] == pytest.approx(value, rel=1e-5)
    y = given(y, of_student, student_form)
    assert np.isfinite(distiller.train_on_batch(x, y)).all()


def test_an_output_that_one_of_them_lacks_is_named():
    for of_teacher, of_student, role in (("ab", "bc", "student"), ("bc", "ab", "teacher")):
        with pytest.raises(ValueError, match=rf"outputs that the {role} does not have.*\['a'\]"):
            compiled(model(of_teacher), model(of_student), kd("a"))
    with pytest.raises(ValueError, match=r"several outputs.*Pass a dict"):
        compiled(model("ab"), model("ab"), losses.TemperatureKD())


def _named(form, names, one):
    return dict.fromkeys(names, one) if form == "dict" else [one] * len(names)


class TestAsInPlainKeras:
    """Losses, metrics and labels by name or in order; logs bear the same names."""

    CASES = (
        ("auto-dict-dict", None, "dict", "dict"),
        ("list-list-list", "list", "list", "list"),
        ("dict-dict-dict", "dict", "dict", "dict"),
        ("dict-list-dict", "dict", "list", "dict"),
        ("list-dict-dict", "list", "dict", "dict"),
        ("dict-none-list", "dict", None, "list"),
    )

    @pytest.mark.parametrize(
        ("loss", "metrics", "y"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
    )
    @pytest.mark.parametrize("form", ["list", "dict"])
    def test_log_names(self, form, loss, metrics, y, rng):
        x, _ = models.features(rng)
        student = model("ba", form)
        plain_loss = _named(loss or "dict", "ba", "sparse_categorical_crossentropy")
        plain_metrics = metrics and _named(metrics, "ba", ["accuracy"])
        targets = given(labels(rng), "ba", y)
        if form == "dict" and "list" in (loss, metrics, y):
            pytest.skip("plain Keras asks for dicts")
        student.compile("sgd", plain_loss, metrics=plain_metrics, run_eagerly=True)
        expected = student.evaluate(x, targets, verbose=0, return_dict=True)
        distiller = compiled(
            model("ab"),
            student,
            kd("ab"),
            plain_loss if loss else "auto",
            metrics=plain_metrics,
        )
        logs = evaluated(distiller, x, targets)
        added = {"student_loss", "kd_loss", "a_kd_loss", "b_kd_loss"}
        assert set(logs) == set(expected) | added
        for name in set(expected) - {"loss"}:
            assert logs[name] == pytest.approx(expected[name], rel=1e-5), name
        assert logs["student_loss"] == pytest.approx(expected["loss"], rel=1e-5)
        history = distiller.fit(x, targets, validation_split=0.5, verbose=0).history
        assert set(history) >= set(expected) | {f"val_{name}" for name in expected}

    @pytest.mark.parametrize("form", ["list", "dict"])
    def test_labels_may_lack_what_nobody_needs(self, form, rng):
        x, _ = models.features(rng)
        y = labels(rng)
        teacher, student = model("ab"), model("ab", form)
        f, z = (
            {name: models.dense_logits(one, x, name) for name in "ab"} for one in (teacher, student)
        )
        expected = {
            "student_loss": supervised("a", y["a"], z["a"]),
            "a_kd_loss": taught("a", y["a"], z["a"], f["a"]),
            "b_kd_loss": models.kd(z["b"], f["b"]).mean(),
        }
        kd_loss = {"a": losses.AsymmetricTemperatureKD(), "b": losses.TemperatureKD()}
        sparse, metrics = "sparse_categorical_crossentropy", {"a": ["accuracy"]}
        for loss in ({"a": sparse}, {"a": sparse, "b": None}):
            distiller = compiled(teacher, student, kd_loss, loss, metrics=metrics)
            for targets in ({"a": y["a"]}, {"a": y["a"], "b": None}, [y["a"], None]):
                logs = evaluated(distiller, x, targets)
                assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-5)
                assert [name for name in logs if "accuracy" in name] == ["a_accuracy"]
        assert np.isfinite(distiller.train_on_batch(x, {"a": y["a"]})).all()


class TestOneOutput:
    @pytest.mark.parametrize("form", ["single", "list", "dict"])
    @pytest.mark.parametrize("loss", ["auto", "name", "dict"])
    # Keras says so of a plain model too, whose only input stands in a list.
    @pytest.mark.filterwarnings("ignore:(?s).*structure of `inputs` doesn't match:UserWarning")
    def test_in_every_structure(self, form, loss, rng):
        x, _ = models.features(rng)
        y = labels(rng)["a"]

        def one():
            inputs = keras.Input((FEATURES,))
            outputs = layers.Dense(3, "softmax", name="a")(inputs)
            return keras.Model(
                inputs=[inputs],
                outputs={"single": outputs, "list": [outputs], "dict": {"a": outputs}}[form],
            )

        teacher, student = one(), one()
        supervised_loss = {
            "auto": "auto",
            "name": "sparse_categorical_crossentropy",
            "dict": {"a": "sparse_categorical_crossentropy"},
        }[loss]
        distiller = compiled(
            teacher,
            student,
            losses.AsymmetricTemperatureKD(4, 2),
            supervised_loss,
            metrics=["accuracy"],
        )
        f, z = (models.dense_logits(one, x) for one in (teacher, student))
        targets = {"a": y} if form == "dict" else y
        logs = evaluated(distiller, x, targets)
        assert logs["student_loss"] == pytest.approx(supervised("a", y, z), rel=1e-5)
        assert logs["kd_loss"] == pytest.approx(taught("a", y, z, f), rel=1e-5)
        assert logs["accuracy"] == pytest.approx((z.argmax(-1) == y).mean())
        assert np.isfinite(distiller.fit(x, targets, verbose=0).history["loss"]).all()
        said = distiller.predict(x, verbose=0)
        keras.tree.assert_same_structure(said, student.predict(x, verbose=0))


class TestOutputsThatAreNotDistilled:
    @pytest.mark.parametrize("end", ["relu", "sigmoid"])
    def test_may_end_as_they_like(self, end, rng):
        x, _ = models.features(rng)
        y = labels(rng)
        ends = {"a": "softmax", "b": end}
        teacher, student = model("ab", ends=ends), model("ab", ends=ends)
        f, z = (models.dense_logits(one, x, "a") for one in (teacher, student))
        loss = {"a": "sparse_categorical_crossentropy", "b": "mse"}
        targets = [y["a"], models.one_hot(y["b"])]
        distiller = compiled(teacher, student, kd("a"), loss)
        logs = evaluated(distiller, x, targets)
        said = distiller.predict(x, verbose=0)[1]
        expected = supervised("a", y["a"], z) + np.mean((said - targets[1]) ** 2)
        assert logs["student_loss"] == pytest.approx(expected, rel=1e-4)
        assert logs["kd_loss"] == pytest.approx(taught("a", y["a"], z, f), rel=1e-5)

    def test_auto_needs_to_read_them(self):
        ends = {"a": "softmax", "b": "relu"}
        with pytest.raises(ValueError, match=r"loss='auto' cannot tell.*output 'b'.*'mse'"):
            compiled(model("ab", ends=ends), model("ab", ends=ends), kd("a"))

    def test_what_is_said_of_one_output_leaves_the_other(self, rng):
        x, _ = models.features(rng)
        y = labels(rng)
        ends = {"a": "softmax", "b": "relu"}
        teacher, student = model("ab", ends=ends), model("ab", ends=ends)
        kd_loss = {"a": losses.TemperatureKD(), "b": losses.TemperatureKD()}
        with pytest.raises(ValueError, match=r"at its output 'b'.*teacher_from_logits=\{'b'"):
            compiled(teacher, student, kd_loss)
        said = {"teacher_from_logits": {"b": True}, "student_from_logits": {"b": True}}
        distiller = keras_ats.Distiller(teacher, student, **said)
        distiller.compile("sgd", "auto", kd_loss, evaluate_teacher=True, run_eagerly=True)
        f, z = (
            {name: models.dense_logits(one, x, name) for name in "ab"} for one in (teacher, student)
        )
        logs = evaluated(distiller, x, [y["a"], y["b"]])
        assert logs["a_kd_loss"] == pytest.approx(models.kd(z["a"], f["a"]).mean(), rel=1e-5)
        expected = models.kd(np.maximum(z["b"], 0), np.maximum(f["b"], 0)).mean()
        assert logs["b_kd_loss"] == pytest.approx(expected, rel=1e-5)
