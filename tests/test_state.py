"""What a distiller is stays what it is: through a `compile` that raises, through assignments."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend

import keras_ats
from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD, BernoulliKD, LogitMSE, TemperatureKD
from keras_ats.record import Needs
from keras_ats.teachers import Ensemble

pytestmark = cases_in_turn("what may be assigned, and when, is Python's business")

BACKEND = keras.backend.backend()


def value(variable):
    return float(keras.ops.convert_to_numpy(variable))


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def same(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class HiddenMSE(keras_ats.losses.DistillationLoss):
    """Compares the hidden layers, the student's through a layer of the loss's own."""

    name = "hidden_mse"

    def __init__(self, student_layer, teacher_layer):
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.needs = Needs(student_features=(student_layer,), teacher_features=(teacher_layer,))

    def build(self, student, teacher):
        self.projector = keras.layers.Dense(teacher.features[self.teacher_layer][-1])
        self.projector.build(student.features[self.student_layer])

    def parts(self, lesson):
        projected = self.projector(lesson.student.features[self.student_layer])
        difference = projected - lesson.teacher.features[self.teacher_layer]
        values = keras.ops.mean(keras.ops.square(difference), axis=-1)
        return {self.name: self.reduce(values, lesson.sample_weight)}


class Unbuildable(TemperatureKD):
    def build(self, student, teacher):
        raise ArithmeticError("as it is asked to be built")


def named(width, prefix):
    return keras.Sequential(
        [
            keras.Input((models.FEATURES,)),
            keras.layers.Dense(width, "tanh", name=f"{prefix}_hidden"),
            keras.layers.Dense(models.CLASSES, "softmax"),
        ]
    )


# --- A `compile` that raises.

HINT = ("student_hidden", "teacher_hidden")
BAD_COMPILES = {
    "no loss": {"kd_loss": None},
    "strange loss": {"kd_loss": "no such loss"},
    "heavy": {"kd_loss": TemperatureKD(2), "kd_weight": 1.5},
    "reduction": {"kd_loss": TemperatureKD(2, reduction="none")},
    "reduction in a list": {"kd_loss": [TemperatureKD(2), LogitMSE(reduction=None)]},
    "no such layer": {"kd_loss": HiddenMSE("student_hidden", "no_such_layer")},
    "no such layer of the student": {"kd_loss": HiddenMSE("nowhere", "teacher_hidden")},
    "other head": {"kd_loss": BernoulliKD()},
    "no such output": {"kd_loss": {"nowhere": TemperatureKD(2)}, "kd_weight": {"nowhere": 1, 2: 3}},
    "cannot be built": {"kd_loss": [HiddenMSE(*HINT), Unbuildable(2)]},
    "optimizer": {"kd_loss": TemperatureKD(2), "optimizer": "no such optimizer"},
    "metrics": {"kd_loss": TemperatureKD(2), "metrics": "accuracy"},
    "strange argument": {"kd_loss": TemperatureKD(2), "temperature": 4},
    "supervised loss": {
        "kd_loss": TemperatureKD(2),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    },
    "evaluate_teacher": {"kd_loss": TemperatureKD(2), "evaluate_teacher": "perhaps"},
    "distillation_metrics": {"kd_loss": TemperatureKD(2), "distillation_metrics": 5},
    "weights by output": {"kd_loss": TemperatureKD(2), "loss_weights": "heavy", "metrics": 4},
}


def hinted():
    """Compiled with a loss that reads inner layers and owns one."""
    keras.utils.set_random_seed(3)
    distiller = Distiller(named(6, "teacher"), named(4, "student"))
    losses = [AsymmetricTemperatureKD(4, 2), HiddenMSE(*HINT)]
    distiller.compile(
        keras.optimizers.Adam(0.01),
        kd_loss=losses,
        kd_weight=[0.3, 0.2],
        metrics=["accuracy"],
        jit_compile=BACKEND == "jax",  # XLA would take TensorFlow minutes.
    )
    return distiller


def test_a_compile_that_raises_changes_nothing(rng):
    x, y = models.features(rng)
    disturbed, expected = hinted(), hinted()
    for distiller in (disturbed, expected):
        distiller.fit(x, y, verbose=0, shuffle=False)
    optimizer, kd_loss = disturbed.optimizer, disturbed.kd_loss
    config = disturbed.get_compile_config()
    steps = (disturbed.train_function, disturbed.test_function)
    metrics, variables = disturbed.metrics, weights(disturbed)
    # The losses that are in use, as well as new ones.
    in_use = {
        "in use": {"kd_loss": kd_loss, "kd_weight": [0.4, 0.1], "optimizer": "no such optimizer"},
        "in use, with more": {"kd_loss": [*kd_loss, Unbuildable(2)]},
    }
    for name, arguments in (BAD_COMPILES | in_use).items():
        with pytest.raises((TypeError, ValueError, ArithmeticError)):
            disturbed.compile(**arguments)
        assert disturbed.optimizer is optimizer, name
        assert disturbed.kd_loss is kd_loss, name
        assert disturbed.get_compile_config() == config, name
        assert (disturbed.train_function, disturbed.test_function) == steps, name
        assert [id(one) for one in disturbed.metrics] == [id(one) for one in metrics], name
        same(weights(disturbed), variables)
    logs = [d.fit(x, y, verbose=0, shuffle=False).history for d in (disturbed, expected)]
    assert logs[0] == logs[1]
    same(weights(disturbed), weights(expected))


def test_a_first_compile_that_raises_leaves_the_distiller_uncompiled(rng):
    for arguments in BAD_COMPILES.values():
        distiller = Distiller(named(6, "teacher"), named(4, "student"))
        with pytest.raises((TypeError, ValueError, ArithmeticError)):
            distiller.compile(**arguments)
        assert not distiller.compiled
        assert distiller.kd_loss is None
        assert not distiller._pair.view.features
        assert not distiller._pair.teacher.view.features


def test_what_an_earlier_loss_needed_is_read_no_longer():
    distiller = hinted()
    assert distiller._pair.view.features
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    assert not distiller._pair.view.features
    # Probabilities of unknown kind are those of the present loss.
    told = Distiller(
        models.subclassed(softmax=True),
        models.subclassed(softmax=True),
        teacher_from_logits=False,
        student_from_logits=False,
    )
    for kd_loss in (TemperatureKD(4), BernoulliKD(), TemperatureKD(4)):
        told.compile("sgd", kd_loss=kd_loss)


@pytest.mark.parametrize("reduction", ["none", None])
@pytest.mark.parametrize("form", [lambda one: one, lambda one: [LogitMSE(), one]])
def test_a_loss_that_is_not_reduced_does_not_train(form, reduction):
    distiller = Distiller(models.linear(), models.linear())
    with pytest.raises(ValueError, match=r"one number.*TemperatureKD\(reduction=.*Leave"):
        distiller.compile(kd_loss=form(TemperatureKD(2, reduction=reduction)))


# --- Assignment where `assign` is meant.


def test_numbers_are_assigned_to_variables_also_after_a_fit(rng):
    x, y = models.features(rng)
    rows = models.one_hot(y)
    teacher, student = models.sequential(16), models.linear()
    logits = models.outputs(student, x), models.outputs(teacher, x)
    kd_loss = AsymmetricTemperatureKD(4, 2)
    distiller = Distiller(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.0), kd_loss=kd_loss, jit_compile=BACKEND == "jax")
    variables = distiller.kd_weight, kd_loss.correct_temperature
    distiller.fit(x, y, verbose=0)
    distiller.kd_weight = np.float32(0.75)
    distiller.kd_loss.correct_temperature = 1
    distiller.kd_loss.wrong_temperature = 3.0
    assert (distiller.kd_weight, kd_loss.correct_temperature) == variables
    assert value(distiller.kd_weight) == 0.75
    assert value(distiller.student_weight) == 0.25
    logs = distiller.fit(x, y, verbose=0).history
    expected = models.ats(rows, *logits, correct=1.0, wrong=3.0).mean()
    assert logs["kd_loss"][0] == pytest.approx(expected, rel=1e-5)
    total = 0.75 * logs["kd_loss"][0] + 0.25 * logs["student_loss"][0]
    assert logs["loss"][0] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "0.9", True, None, []])
def test_what_is_no_number_is_not_assigned(number):
    distiller = Distiller(models.linear(), models.linear())
    distiller.compile("sgd", kd_loss=TemperatureKD(4))
    for owner, name in ((distiller, "kd_weight"), (distiller.kd_loss, "temperature")):
        before = value(getattr(owner, name))
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(owner, name, number)
        assert value(getattr(owner, name)) == before


@pytest.mark.parametrize("number", [0.0, -1.0])
def test_a_temperature_is_held_to_its_range_when_it_is_assigned(number):
    kd_loss = TemperatureKD(4)
    if number == 0.0:
        kd_loss = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(kd_loss)
        )
    with pytest.raises(ValueError, match="`temperature` must be a finite number above 0"):
        kd_loss.temperature = number
    assert value(kd_loss.temperature) == 4.0


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_models_cannot_be_exchanged(role, rng):
    x, _ = models.features(rng)
    distiller = Distiller(models.sequential(16), models.linear())
    present = getattr(distiller, role)
    with pytest.raises(AttributeError, match=f"The {role} of a distiller cannot be exchanged"):
        setattr(distiller, role, models.linear())
    assert getattr(distiller, role) is present
    np.testing.assert_array_equal(
        models.outputs(distiller, x), models.outputs(distiller.student, x)
    )


# --- Booleans, graphs, evaluate.


@on_one_backend("flags are read before anything is computed")
def test_booleans_of_numpy_are_booleans():
    for flag in (np.True_, True, 1):
        teacher = models.subclassed(softmax=False)
        view = Distiller(teacher, models.linear(), teacher_from_logits=flag)._pair.teacher.view
        assert set(view.endings.values()) == {"logits"}
    for flag in (np.False_, False, 0):
        teacher = models.subclassed(softmax=True)
        view = Distiller(teacher, models.linear(), teacher_from_logits=flag)._pair.teacher.view
        assert set(view.endings.values()) == {"probabilities"}
    with pytest.raises(TypeError, match="teacher_from_logits"):
        Distiller(models.subclassed(), models.linear(), teacher_from_logits="yes")


@on_one_backend("graphs are Keras's")
@pytest.mark.parametrize("build", [models.sequential, models.functional])
def test_the_teachers_graph_does_not_grow(build):
    teacher = build(16, softmax=True)

    def graph():
        return [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in teacher.layers]

    before, layers = graph(), list(teacher.layers)
    student = build(4, softmax=True)
    for _ in range(20):
        distiller = Distiller(teacher, student)
        distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2))
    Distiller(Ensemble([teacher, build(4)]), build(4, softmax=True))
    assert graph() == before
    assert teacher.layers == layers


def test_evaluate_gives_as_many_values_as_the_student(rng):
    x, y = models.features(rng)
    student = models.linear(softmax=True)
    distiller = Distiller(models.sequential(16), student)
    distiller.compile(
        "sgd", kd_loss=TemperatureKD(4), metrics=["accuracy"], jit_compile=BACKEND == "jax"
    )
    loss, accuracy = distiller.evaluate(x, y, verbose=0)
    student.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    assert (loss, accuracy) == pytest.approx(tuple(student.evaluate(x, y, verbose=0)), rel=1e-5)


def test_whether_the_teacher_is_evaluated_may_change(rng):
    """A compiled step of before would go on as it was, and the teacher's term would stay 0."""
    x, y = models.features(rng)
    distiller = Distiller(models.linear(), models.linear())
    distiller.compile("sgd", kd_loss=TemperatureKD(2))
    without = distiller.evaluate(x, y, verbose=0, return_dict=True)
    distiller.evaluate_teacher = True
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    expected = models.kd(
        models.outputs(distiller.student, x), models.outputs(distiller.teacher, x), 2.0
    )
    assert logs["kd_loss"] == pytest.approx(expected.mean(), rel=1e-4)
    distiller.evaluate_teacher = False
    assert distiller.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(without)
    with pytest.raises(TypeError, match=r"evaluate_teacher"):
        distiller.evaluate_teacher = "yes"


@pytest.mark.parametrize("name", ["kd_loss", "student_weight"])
def test_what_was_compiled_is_not_assigned(name):
    distiller = Distiller(models.linear(), models.linear())
    distiller.compile("sgd", kd_loss=TemperatureKD(2))
    with pytest.raises(AttributeError, match=rf"Call `compile` again with {name}=.*assign"):
        setattr(distiller, name, 0.3)


@pytest.mark.parametrize("reduction", ["none", None])
def test_a_supervised_loss_without_reduction_is_refused(reduction):
    distiller = Distiller(models.linear(), models.linear())
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)
    for given in (loss, [loss], {distiller.output_names[0]: loss}):
        with pytest.raises(ValueError, match=r"one number.*SparseCategorical.*Leave `reduction`"):
            distiller.compile("sgd", given, kd_loss=TemperatureKD(2))
