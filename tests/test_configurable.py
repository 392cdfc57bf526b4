"""What parts of losses keep: variables wherever they lie, and a config that follows by itself."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import keras_ats
from keras_ats.checks import positive_number
from keras_ats.losses import CurriculumTemperatureKD, KDLoss, LogitMSE, SoftTargetKD, TemperatureKD
from keras_ats.temperatures import Asymmetric, Learned, Product, Temperature

to_numpy = keras.ops.convert_to_numpy


@keras.saving.register_keras_serializable(package="tests")
class Mean(Temperature):
    """The mean of several rules, in a list."""

    def __init__(self, rules):
        self.rules = list(rules)

    def __call__(self, lesson):
        return sum(rule(lesson) for rule in self.rules) / len(self.rules)


@keras.saving.register_keras_serializable(package="tests")
class ByName(Temperature):
    """The same with a dict of them, and a number that training may change."""

    def __init__(self, rules, strength=1.0):
        self.rules = dict(rules)
        self.strength = self.add_variable(strength, "strength", positive_number)

    def __call__(self, lesson):
        return self.strength * sum(rule(lesson) for rule in self.rules.values())


@keras.saving.register_keras_serializable(package="tests")
class FromStudent(Temperature):
    """A temperature that a Keras layer computes."""

    def __init__(self):
        self.layer = layers.Dense(1, activation="softplus")
        self.layer.build((None, models.CLASSES))

    def __call__(self, lesson):
        return 1.0 + self.layer(keras.ops.stop_gradient(lesson.student.logits))


def low():
    # At low temperatures the loss depends on them visibly.
    return Learned(raw_temperature=-3.0)


RULES = {
    "list": (lambda: Mean([low(), low()]), 4, 2),
    "dict": (lambda: ByName({"a": low(), "b": low()}), 5, 2),
    "layer": (FromStudent, 2, 2),
}


@pytest.mark.parametrize("kind", RULES)
def test_variables_are_found_trained_saved_and_resumed_wherever_they_lie(kind, rng, tmp_path):
    make, count, trainable = RULES[kind]
    x, y = models.features(rng)
    rule = make()
    assert len(rule.variables) == count
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    distiller.compile("sgd", kd_loss=SoftTargetKD(rule))
    of_rule = [variable for variable in rule.variables if variable.trainable]
    assert len(of_rule) == trainable
    before = [to_numpy(variable).copy() for variable in of_rule]
    distiller.fit(x, y, epochs=2, batch_size=8, verbose=0)
    after = [to_numpy(variable) for variable in of_rule]
    for old, new in zip(before, after, strict=True):
        assert np.abs(new - old).max() > 0
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for mine, theirs in zip(rule.variables, loaded.kd_loss.temperature.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))


def test_a_config_follows_from_the_constructor():
    rule = ByName({"a": Asymmetric(5.0, 3.0)}, strength=2.0)
    rule.strength.assign(2.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rule))
    assert float(to_numpy(copy.strength)) == 2.5
    assert isinstance(copy.rules["a"], Asymmetric)
    assert copy.get_config() == rule.get_config()
    assert set(Product(2.0, Learned()).get_config()) == {"first", "second"}
    assert list(TemperatureKD().get_config())[:4] == [
        "temperature",
        "adjustment",
        "reduction",
        "name",
    ]


def test_a_subclass_with_arguments_of_its_own_needs_no_get_config():
    class Scaled(TemperatureKD):
        def __init__(self, factor=1.0, **options):
            super().__init__(3.0, **options)
            self.factor = factor

    assert Scaled(2.0, name="mine").get_config() == {
        "factor": 2.0,
        "temperature": 3.0,
        "adjustment": None,
        "reduction": "sum_over_batch_size",
        "name": "mine",
        "ignore_label": None,
        "pseudo_labels": False,
    }


@pytest.mark.parametrize("make", [LogitMSE, TemperatureKD])
def test_a_distillation_loss_is_no_loss_on_labels(make, rng):
    """It used to train nothing, without a word on JAX: its arguments come the other way round."""
    x, y = models.features(rng, 8)
    student = models.linear()
    student.compile("sgd", loss=make(), run_eagerly=True)
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
        student.fit(x, models.one_hot(y), verbose=0)


@pytest.mark.parametrize(
    "name", ["combined_kd", "distillation_loss", "kd_loss", "Bernouli", "focal_weighted"]
)
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="No distillation loss is named"):
        keras_ats.losses.get(name)


def test_a_loss_is_found_by_name_once_it_is_registered():
    class Unregistered(KDLoss):
        pass

    with pytest.raises(ValueError, match="named 'unregistered'"):
        keras_ats.losses.get("unregistered")
    registered = keras.saving.register_keras_serializable(package="tests")(Unregistered)
    assert isinstance(keras_ats.losses.get("unregistered"), registered)


def test_a_registered_loss_that_needs_arguments_says_so():
    @keras.saving.register_keras_serializable(package="tests")
    class Demanding(KDLoss):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

    with pytest.raises(
        TypeError, match=r"Demanding cannot be had by its name.*Demanding\(\.\.\.\)"
    ):
        keras_ats.losses.get("demanding")


@pytest.mark.parametrize("make", [SoftTargetKD, lambda rule: [LogitMSE(), SoftTargetKD(rule)]])
def test_gradient_reversal_finds_learned_temperatures_in_any_loss(make, rng):
    x, y = models.features(rng, 8)
    rule = Learned()
    distiller = keras_ats.Distiller(models.linear(), models.linear())
    distiller.compile("sgd", kd_loss=make(rule), run_eagerly=True)
    schedule = keras_ats.callbacks.GradientReversalSchedule(epochs=2)
    distiller.fit(x, y, epochs=1, verbose=0, callbacks=[schedule])
    assert float(to_numpy(rule.gradient_factor)) == pytest.approx(-0.5)


def test_a_curriculum_still_has_its_factor():
    loss = CurriculumTemperatureKD()
    assert loss.gradient_factor is loss.temperature_rule.gradient_factor


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras_ats.temperatures.FocalWeighted(focus=-1.0), "`focus`"),
        (lambda: Learned(span=0.0), "`span`"),
        (lambda: keras_ats.adjustments.Smooth(0.0), "`correct_probability`"),
    ],
)
def test_temperatures_are_explained_only_where_there_is_one(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "Temperatures divide logits" not in str(error.value)
    with pytest.raises(ValueError, match="Temperatures divide logits"):
        TemperatureKD(-1.0)


def test_an_adjustment_that_lacks_labels_names_itself():
    loss = TemperatureKD(4.0, adjustment=keras_ats.adjustments.Swap())
    with pytest.raises(ValueError, match=r"adjustment=Swap needs labels.*leave the adjustment out"):
        loss(np.zeros((1, 3)), np.zeros((1, 3)))
    rules = [keras_ats.adjustments.Standardize(), keras_ats.adjustments.Swap()]
    assert TemperatureKD(4.0, adjustment=rules).needs.labels
    assert not TemperatureKD(4.0, adjustment=rules[:1]).needs.labels


def test_standardizing_needs_no_labels_and_smoothing_has_no_such_option():
    student, teacher = np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 4.0, 8.0]])
    loss = TemperatureKD(2.0, adjustment=keras_ats.adjustments.Standardize())
    assert float(to_numpy(loss(student, teacher))) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(TypeError, match="unexpected keyword argument 'standardize'"):
        keras_ats.losses.LabelSmoothing(standardize=True)
    with pytest.raises(ValueError, match="no soft targets to adjust"):
        LogitMSE(adjustment=keras_ats.adjustments.Smooth())


class TestWeights:
    def distiller(self):
        return keras_ats.Distiller(models.linear(), models.linear())

    def test_rounding_does_not_make_a_sum_too_large(self):
        distiller = self.distiller()
        losses = [TemperatureKD(float(i + 1)) for i in range(4)]
        distiller.compile(kd_loss=losses, kd_weight=[0.8, 0.05, 0.05, 0.1])
        assert float(to_numpy(distiller.kd_weight)) == 1.0
        assert float(to_numpy(distiller.student_weight)) == 0.0

    @pytest.mark.parametrize("weight", [45.0, [40.0, 5.0]])
    def test_any_weight_goes_beside_a_given_one(self, weight, rng):
        x, y = models.features(rng, 8)
        distiller = self.distiller()
        losses = TemperatureKD() if weight == 45.0 else [TemperatureKD(), LogitMSE()]
        distiller.compile("sgd", kd_loss=losses, kd_weight=weight, student_weight=1.0)
        logs = distiller.train_on_batch(x, y, return_dict=True)
        expected = logs["student_loss"] + 45 * logs["kd_loss"]
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)

    @pytest.mark.parametrize("weight", [1.1, [0.6, 0.6]])
    def test_what_is_left_of_one_cannot_be_negative(self, weight):
        losses = TemperatureKD() if weight == 1.1 else [TemperatureKD(), LogitMSE()]
        with pytest.raises(ValueError, match=r"within \[0, 1\].*give both weights"):
            self.distiller().compile(kd_loss=losses, kd_weight=weight)

    def test_a_warm_up_may_end_above_one_beside_a_given_weight(self, rng):
        x, y = models.features(rng, 8)
        warmup = keras_ats.callbacks.KDWeightWarmup(9.0, epochs=2)
        distiller = self.distiller()
        distiller.compile("sgd", kd_loss=TemperatureKD(), student_weight=0.1, run_eagerly=True)
        distiller.fit(x, y, epochs=1, verbose=0, callbacks=[warmup])
        assert float(to_numpy(distiller.kd_weight)) == 4.5
        distiller.compile("sgd", kd_loss=TemperatureKD(), run_eagerly=True)
        with pytest.raises(ValueError, match="Pass a student_weight to `compile`"):
            distiller.fit(x, y, epochs=1, verbose=0, callbacks=[warmup])

    def test_what_is_assigned_leaves_something_of_one_too(self):
        distiller = self.distiller()
        distiller.compile(kd_loss=TemperatureKD())
        with pytest.raises(ValueError, match=r"within \[0, 1\].*kd_weight=1.5.*student_weight"):
            distiller.kd_weight = 1.5
        assert float(to_numpy(distiller.kd_weight)) == 0.5
        distiller.compile(kd_loss=TemperatureKD(), student_weight=1.0)
        distiller.kd_weight = 1.5
        assert float(to_numpy(distiller.kd_weight)) == 1.5

    def test_a_warm_up_of_a_plain_model_is_refused(self, rng):
        x, y = models.features(rng, 8)
        student = models.linear()
        student.compile("sgd", loss="sparse_categorical_crossentropy", run_eagerly=True)
        warmup = keras_ats.callbacks.KDWeightWarmup(0.5)
        with pytest.raises(TypeError, match="KDWeightWarmup sets 'kd_weight' of a distiller"):
            student.fit(x, y, verbose=0, callbacks=[warmup])


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_ats.callbacks.KDWeightWarmup(0.5, epochs="3"),
        lambda: keras_ats.callbacks.GradientReversalSchedule(epochs="3"),
        lambda: keras_ats.callbacks.TeacherCheckpoints("folder", every=2.5),
        lambda: keras_ats.self_distill(models.linear(), generations=True, train=print),
        lambda: TemperatureKD(adjustment=[keras_ats.adjustments.Swap]),
        lambda: keras_ats.losses.TransformedTeacherKD(weighted="yes"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(make):
    with pytest.raises(TypeError, match="must be"):
        make()
