"""The supervised loss reads the same logits as the teacher's, or is refused with a remedy."""

import functools

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from models import FEATURES

import keras_ats
from keras_ats import losses

pytestmark = cases_in_turn("losses are chosen before a backend sees a tensor")


def head(units, activation=None, name=None):
    return keras.Sequential([keras.Input((FEATURES,)), layers.Dense(units, activation, name=name)])


def two_heads(kind="softmax", tags="sigmoid"):
    """A head over classes and one of questions of their own."""
    inputs = keras.Input((FEATURES,))
    heads = [layers.Dense(3, kind, name="kind"), layers.Dense(2, tags, name="tags")]
    return keras.Model(inputs, [layer(inputs) for layer in heads])


def compiled(teacher, student, loss="auto", kd_loss=None, said=None, **options):
    distiller = keras_ats.Distiller(
        teacher, student, teacher_from_logits=said, student_from_logits=said
    )
    options = {"evaluate_teacher": True, "run_eagerly": True, **options}
    distiller.compile("sgd", loss, kd_loss or losses.TemperatureKD(), **options)
    return distiller


def evaluated(distiller, x, y, **options):
    return distiller.evaluate(x, y, verbose=0, return_dict=True, **options)


class TestSigmoidHeads:
    @pytest.fixture(params=[1, 3])
    def units(self, request):
        return request.param

    @pytest.mark.parametrize(
        ("loss", "dtype"), [("auto", "int32"), ("binary_crossentropy", "float32")]
    )
    def test_learn_by_binary_crossentropy(self, units, loss, dtype, rng):
        x, _ = models.features(rng)
        y = rng.integers(2, size=(16, units))
        weight = rng.uniform(size=16)
        teacher, student = head(units, "sigmoid"), head(units, "sigmoid")
        distiller = compiled(
            teacher, student, loss, losses.BernoulliKD(4, 2), metrics=["binary_accuracy"]
        )
        f, z = (models.dense_logits(model, x) for model in (teacher, student))
        supervised = models.binary_cross_entropy(y, z).mean(axis=-1)
        taught = models.bernoulli_kd(y, z, f)
        given = y.astype(dtype)
        logs = evaluated(distiller, x, given)
        assert logs["student_loss"] == pytest.approx(supervised.mean(), rel=1e-5)
        assert logs["kd_loss"] == pytest.approx(taught.mean(), rel=1e-5)
        assert logs["binary_accuracy"] == pytest.approx(((z > 0) == y).mean())
        logs = evaluated(distiller, x, given, sample_weight=weight)
        assert logs["student_loss"] == pytest.approx((weight * supervised).mean(), rel=1e-5)
        assert logs["kd_loss"] == pytest.approx((weight * taught).mean(), rel=1e-5)
        assert np.isfinite(distiller.train_on_batch(x, given)).all()

    def test_one_unit_takes_one_label_for_each_sample(self, rng):
        x, _ = models.features(rng)
        y = rng.integers(2, size=16)
        distiller = compiled(
            head(1, "sigmoid"), head(1, "sigmoid"), "auto", losses.BernoulliKD(), metrics=["acc"]
        )
        assert evaluated(distiller, x, y) == pytest.approx(evaluated(distiller, x, y[:, None]))

    @pytest.mark.parametrize("said", [True, False])
    def test_of_subclassed_models(self, units, said, rng):
        x, _ = models.features(rng)
        y = rng.integers(2, size=(16, units))

        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.head = layers.Dense(units, None if said else "sigmoid")

            def call(self, inputs):
                return self.head(inputs)

        teacher, student = Own(), Own()
        teacher(x), student(x)
        distiller = compiled(teacher, student, "auto", losses.BernoulliKD(4, 2), said)
        f, z = (models.dense_logits(model, x) for model in (teacher, student))
        logs = evaluated(distiller, x, y)
        supervised = models.binary_cross_entropy(y, z).mean()
        assert logs["student_loss"] == pytest.approx(supervised, rel=1e-4)
        assert logs["kd_loss"] == pytest.approx(models.bernoulli_kd(y, z, f).mean(), rel=1e-4)

    def test_bernoulli_kd_tells_what_linear_units_are(self, units, rng):
        x, _ = models.features(rng)
        y = rng.integers(2, size=(16, units))
        teacher, student = head(units), head(units)
        distiller = compiled(teacher, student, "auto", losses.BernoulliKD(4, 2))
        z = models.dense_logits(student, x)
        expected = models.binary_cross_entropy(y, z).mean()
        assert evaluated(distiller, x, y)["student_loss"] == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("activation", "kd_loss", "remedy"),
        [
            ("sigmoid", losses.AsymmetricTemperatureKD, r"sigmoid.*BernoulliKD\(4, 2\)"),
            ("softmax", losses.BernoulliKD, r"softmax.*AsymmetricTemperatureKD\(4, 2\)"),
        ],
    )
    def test_a_loss_for_the_other_kind_names_the_right_one(self, activation, kd_loss, remedy):
        with pytest.raises(ValueError, match=remedy):
            compiled(head(3, activation), head(3, activation), kd_loss=kd_loss())


class TestAuto:
    def test_by_output(self, rng):
        x, y = models.features(rng)
        tags = rng.integers(2, size=(16, 2))
        teacher, student = two_heads(), two_heads()
        kd = {"kind": losses.AsymmetricTemperatureKD(4, 2), "tags": losses.BernoulliKD(4, 2)}
        distiller = compiled(teacher, student, "auto", kd)
        f, z = (
            [models.dense_logits(model, x, name) for name in ("kind", "tags")]
            for model in (teacher, student)
        )
        rows = models.one_hot(y)
        expected = {
            "student_loss": models.cross_entropy(rows, z[0]).mean()
            + models.binary_cross_entropy(tags, z[1]).mean(),
            "kind_kd_loss": models.ats(rows, z[0], f[0]).mean(),
            "tags_kd_loss": models.bernoulli_kd(tags, z[1], f[1]).mean(),
        }
        for given in ([y, tags], {"tags": tags, "kind": y}):
            logs = evaluated(distiller, x, given)
            assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("loss", ["auto", "mse"])
    @pytest.mark.parametrize("units", [1, 2])
    def test_of_values_with_a_loss_of_values(self, loss, units, rng):
        x, _ = models.features(rng)
        y = rng.normal(size=(16, units)).astype("float32")
        teacher, student = head(units), head(units)
        distiller = compiled(teacher, student, loss, losses.RegressionKD())
        f, z = (models.dense_logits(model, x) for model in (teacher, student))
        logs = evaluated(distiller, x, y)
        assert logs["student_loss"] == pytest.approx(np.mean((z - y) ** 2), rel=1e-5)
        assert logs["kd_loss"] == pytest.approx(np.mean((z - f) ** 2), rel=1e-5)

    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            ("mse", lambda y, z: (z - y) ** 2),
            (
                keras.losses.BinaryCrossentropy(from_logits=True),
                lambda y, z: models.binary_cross_entropy(y, z),
            ),
        ],
    )
    def test_one_linear_unit_must_say(self, loss, expected, rng):
        x, _ = models.features(rng)
        y = rng.integers(2, size=(16, 1))
        teacher, student = head(1, name="o"), head(1, name="o")
        message = r"single linear unit.*BinaryCrossentropy\(from_logits=True\).*loss='mse'"
        with pytest.raises(ValueError, match=message):
            compiled(teacher, student, "auto", losses.LogitMSE())
        distiller = compiled(teacher, student, loss, losses.LogitMSE())
        z = models.dense_logits(student, x)
        logs = evaluated(distiller, x, y)
        assert logs["student_loss"] == pytest.approx(expected(y, z).mean(), rel=1e-5)

    def test_float_labels_are_no_classes(self, rng):
        x, _ = models.features(rng)
        y = rng.normal(size=(16, 3)).astype("float32")
        distiller = compiled(head(3), head(3), "auto", losses.LogitMSE())
        try:
            logs = evaluated(distiller, x, y)
        except ValueError:
            return
        assert np.isnan(logs["loss"])

    @pytest.mark.parametrize("softmax", [True, False])
    def test_reads_the_logits_of_subclassed_models(self, softmax, rng):
        x, y = models.features(rng)
        teacher, student = (models.subclassed(softmax=softmax) for _ in range(2))
        distiller = compiled(teacher, student, "auto", said=not softmax)
        weights = [w.astype("float64") for w in student.get_weights()]
        z = np.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]
        expected = models.cross_entropy(models.one_hot(y), z).mean()
        assert evaluated(distiller, x, y)["student_loss"] == pytest.approx(expected, rel=1e-4)


def mine(y_true, y_pred):
    """A loss of the user's, of which nobody knows what it takes."""
    return keras.ops.mean(keras.ops.square(y_pred - 1.0 * keras.ops.cast(y_true, "float32")), -1)


sparse = keras.losses.SparseCategoricalCrossentropy
binary = keras.losses.BinaryCrossentropy
TAKE_PROBABILITIES = {
    "name": "sparse_categorical_crossentropy",
    "class_name": "SparseCategoricalCrossentropy",
    "object": sparse(),
    "function": keras.losses.sparse_categorical_crossentropy,
    "focal": keras.losses.CategoricalFocalCrossentropy(),
    "divergence": "kl_divergence",
    "partial": functools.partial(keras.losses.sparse_categorical_crossentropy, from_logits=False),
}
TAKE_LOGITS = {
    "object": sparse(from_logits=True),
    "focal": keras.losses.CategoricalFocalCrossentropy(from_logits=True),
    "partial": functools.partial(keras.losses.sparse_categorical_crossentropy, from_logits=True),
    "package": losses.LabelCrossentropy(),
}
TAKE_EITHER = {
    "function": mine,
    "mse": "mse",
    "class": keras.losses.MeanSquaredError(),
    "hinge": "categorical_hinge",
}


class TestContradictions:
    @pytest.mark.parametrize("loss", TAKE_PROBABILITIES.values(), ids=TAKE_PROBABILITIES)
    def test_of_logits_taken_for_probabilities(self, loss):
        with pytest.raises(ValueError, match=r"logits, and the loss takes.*from_logits=True"):
            compiled(head(3), head(3), loss)
        compiled(head(3, "softmax"), head(3, "softmax"), loss)

    @pytest.mark.parametrize("loss", TAKE_LOGITS.values(), ids=TAKE_LOGITS)
    def test_of_probabilities_taken_for_logits(self, loss):
        with pytest.raises(ValueError, match=r"ends in softmax, and.*from_logits=False"):
            compiled(head(3, "softmax"), head(3, "softmax"), loss)
        compiled(head(3), head(3), loss)

    @pytest.mark.parametrize("activation", [None, "softmax"])
    @pytest.mark.parametrize("loss", TAKE_EITHER.values(), ids=TAKE_EITHER)
    def test_no_false_alarm(self, activation, loss):
        compiled(head(3, activation), head(3, activation), loss)

    @pytest.mark.parametrize("form", ["list", "dict", "single"])
    def test_by_output(self, form):
        kd = {"kind": losses.TemperatureKD()}
        wrong = [sparse(), binary()], {"kind": sparse(), "tags": binary()}, binary()
        right = [sparse(), binary(from_logits=True)]
        given = dict(zip(["list", "dict", "single"], wrong, strict=True))[form]
        with pytest.raises(ValueError, match="output 'tags' ends in logits"):
            compiled(two_heads(tags=None), two_heads(tags=None), given, kd)
        right = right if form == "list" else dict(zip(["kind", "tags"], right, strict=True))
        compiled(two_heads(tags=None), two_heads(tags=None), right, kd)

    @pytest.mark.parametrize(
        ("softmax", "wrong", "right"),
        [(True, sparse(from_logits=True), sparse()), (False, sparse(), sparse(from_logits=True))],
    )
    def test_of_subclassed_models_that_say_what_they_return(self, softmax, wrong, right, rng):
        x, y = models.features(rng)
        teacher, student = (models.subclassed(softmax=softmax) for _ in range(2))
        with pytest.raises(ValueError, match="from_logits"):
            compiled(teacher, student, wrong, said=not softmax)
        logs = evaluated(compiled(teacher, student, right, said=not softmax), x, y)
        auto = evaluated(compiled(teacher, student, "auto", said=not softmax), x, y)
        assert logs["student_loss"] == pytest.approx(auto["student_loss"], rel=1e-5)

    def test_the_remedy_gives_the_right_value(self, rng):
        x, y = models.features(rng)
        student = head(3)
        logs = evaluated(compiled(head(3), student, sparse(from_logits=True)), x, y)
        z = models.dense_logits(student, x)
        expected = models.cross_entropy(models.one_hot(y), z).mean()
        assert logs["student_loss"] == pytest.approx(expected, rel=1e-5)


class TestIgnoreClass:
    @pytest.fixture(params=[255, -100])
    def ignored(self, request):
        return request.param

    def test_both_terms_are_means_over_the_valid_positions(self, ignored, rng):
        x, y = models.images(rng)
        y[:, 0] = ignored
        teacher, student = models.dense_conv(), models.dense_conv()
        loss = sparse(from_logits=True, ignore_class=ignored)
        f, z = (models.outputs(model, x)[y != ignored] for model in (teacher, student))
        rows = models.one_hot(y[y != ignored])
        kd = losses.AsymmetricTemperatureKD(4, 2)
        logs = evaluated(compiled(teacher, student, loss, kd), x, y)
        assert logs["kd_loss"] == pytest.approx(models.ats(rows, z, f).mean(), rel=1e-4)
        assert logs["student_loss"] == pytest.approx(models.cross_entropy(rows, z).mean(), rel=1e-4)
        student.compile("sgd", loss, run_eagerly=True)
        alone = student.evaluate(x, y, verbose=0)
        assert logs["student_loss"] == pytest.approx(alone, rel=1e-5)

    def test_a_loss_that_reads_no_labels_learns_there_unless_told(self, ignored, rng):
        x, y = models.images(rng)
        y[:, 0] = ignored
        teacher, student = models.dense_conv(), models.dense_conv()
        loss = sparse(from_logits=True, ignore_class=ignored)
        values = models.kd(models.outputs(student, x), models.outputs(teacher, x))
        for option, expected in ((None, values), (ignored, values[y != ignored])):
            kd = losses.TemperatureKD(ignore_label=option)
            logs = evaluated(compiled(teacher, student, loss, kd), x, y)
            assert logs["kd_loss"] == pytest.approx(expected.mean(), rel=1e-4)
