"""Warnings of what is allowed and most often not meant, and errors of what cannot be meant."""

import warnings

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.adjustments import Standardize, Swap
from keras_ats.distiller import hints
from keras_ats.losses import AsymmetricTemperatureKD, LogitMSE, TemperatureKD

pytestmark = cases_in_turn("hints are given before the first step")


def dense(width, classes=3, activation=None):
    ends = [layers.Dense(width), layers.Dense(classes, activation)]
    return keras.Sequential([keras.Input((models.FEATURES,)), *ends])


def pair():
    return keras_ats.Distiller(models.linear(), models.linear())


def _place(caught):
    """The file that the first warning of ours points at."""
    return next(one.filename for one in caught if one.category is UserWarning)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# --- Weights.


@pytest.mark.parametrize(
    "arguments",
    [
        {"kd_weight": 0, "student_weight": 0},
        {"kd_weight": 0, "loss": None},
        {"kd_weight": 0, "loss": None, "student_weight": 1.0},
    ],
    ids=str,
)
def test_nothing_to_learn(arguments):
    with pytest.warns(UserWarning, match=r"Nothing will be learned.*KDWeightWarmup") as caught:
        pair().compile("sgd", kd_loss=TemperatureKD(), **arguments)
    assert _place(caught) == __file__


@pytest.mark.usefixtures("silent")
def test_something_to_learn():
    for arguments in ({"kd_weight": 0}, {"kd_weight": 0.1, "student_weight": 0}, {"kd_weight": 1}):
        pair().compile("sgd", kd_loss=TemperatureKD(), **arguments)


# --- Models.


def test_teacher_and_student_that_changed_places():
    with pytest.warns(
        UserWarning, match=r"fewer parameters.*Distiller\(teacher, student\)"
    ) as caught:
        keras_ats.Distiller(dense(4), dense(64))
    assert _place(caught) == __file__


@pytest.mark.usefixtures("silent")
def test_teachers_of_any_usual_size():
    keras_ats.Distiller(dense(64), dense(4))
    keras_ats.Distiller(dense(4), dense(4))
    keras_ats.Distiller(dense(4), dense(7))
    # A teacher that computes without parameters.
    fixed = keras.Sequential([keras.Input((3,)), layers.Identity()])
    student = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    keras_ats.Distiller(fixed, student, teacher_from_logits=True)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_an_ending_that_is_said_to_be_logits(role, ending):
    given = {"teacher": dense(4), "student": dense(4), role: dense(4, activation=ending)}
    with pytest.warns(
        UserWarning, match=f"The {role} .* ends in {ending}.*{role}_from_logits=True"
    ):
        keras_ats.Distiller(**given, **{f"{role}_from_logits": True})


@pytest.mark.usefixtures("silent")
def test_logits_that_are_said_to_be_logits():
    relu = dense(4, activation="relu")  # Only the user knows.
    keras_ats.Distiller(dense(4), relu, teacher_from_logits=True, student_from_logits=True)


class WithSteps(keras.Model):
    """A student that trains as it likes, by itself."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3)
        self.head.build((None, models.FEATURES))
        self.built = True

    def call(self, inputs):
        return self.head(inputs)

    def train_step(self, *args):
        raise NotImplementedError

    def compute_loss(self, *args, **kwargs):
        raise NotImplementedError


def test_steps_of_the_students_own(rng):
    x, y = models.features(rng)
    distiller = keras_ats.Distiller(models.linear(), WithSteps(), student_from_logits=True)
    message = "WithSteps with a train_step and a compute_loss of its own, which will not be called"
    with pytest.warns(UserWarning, match=message) as caught:
        distiller.compile("sgd", kd_loss=TemperatureKD(), run_eagerly=True)
    assert _place(caught) == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        distiller.compile("sgd", kd_loss=TemperatureKD(), run_eagerly=True)
        distiller.fit(x, y, verbose=0)


# --- Classes.


@pytest.mark.parametrize(
    "adjustment", [Standardize(), [Swap(), Standardize()]], ids=["one", "many"]
)
@pytest.mark.parametrize("make", [TemperatureKD, LogitMSE])
def test_two_standardised_classes(make, adjustment):
    """They are +-0.707, whatever the models say."""
    distiller = keras_ats.Distiller(dense(4, classes=2), dense(4, classes=2))
    with pytest.raises(ValueError, match="Standardize needs at least 3 classes"):
        distiller.compile("sgd", kd_loss=make(adjustment=adjustment))


def test_too_few_classes_are_known_at_compile():
    distiller = keras_ats.Distiller(dense(4, classes=1), dense(4, classes=1))
    with pytest.raises(ValueError, match=r"needs at least 2 classes.*Received: 1.*BernoulliKD"):
        distiller.compile("sgd", "mse", kd_loss=AsymmetricTemperatureKD())


# --- Files.


def test_a_plain_checkpoint_given_to_fit(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(hints, "_hinted", False)
    x, y = models.features(rng)
    distiller = pair()
    distiller.compile("sgd", kd_loss=TemperatureKD(), run_eagerly=True)
    plain = keras.callbacks.ModelCheckpoint(tmp_path / "a.keras")
    with pytest.warns(UserWarning, match=r"saves the whole distiller.*StudentCheckpoint") as caught:
        distiller.fit(x, y, verbose=0, callbacks=[plain])
    assert _place(caught) == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        distiller.fit(x, y, verbose=0, callbacks=[plain])


# --- Arguments of calls rather than of constructors.


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: AsymmetricTemperatureKD(temperature=4),
            TypeError,
            r"AsymmetricTemperatureKD\(\) got an unexpected .*'temperature'.*correct_temperature",
        ),
        (lambda: TemperatureKD(tau=4), TypeError, r"TemperatureKD\(\) got .*Received: tau=4"),
        (lambda: pair().compile("sgd", kd_loss=[TemperatureKD(), None]), ValueError, "None"),
        (lambda: pair().compile(None, kd_loss=TemperatureKD()), TypeError, "`optimizer`"),
        (lambda: pair().compile(keras.optimizers.SGD, kd_loss="dist"), TypeError, r"SGD\(\.\.\.\)"),
        (lambda: pair().compile(kd_loss="dist", loss="meanest"), ValueError, "loss='meanest'"),
        (lambda: pair().compile(kd_loss="dist", metrics=["acuracy"]), ValueError, "'acuracy'"),
        (lambda: pair().compile(kd_loss="dist", weighted_metrics=[3]), TypeError, "weighted_m"),
        (
            lambda: pair().compile(kd_loss="dist", distillation_metrics=[keras.metrics.Mean()]),
            TypeError,
            "update_lesson",
        ),
        (lambda: keras_ats.distill_chain(iter([1, 2]), print), TypeError, "`models` .*a list"),
        (lambda: TemperatureKD()(1.0, 1.0), ValueError, r"student \(\)"),
    ],
)
def test_calls(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "SoftTargetKD" not in str(caught.value)


@pytest.mark.parametrize(
    "weights", [np.ones((4, 3)), np.ones(3), np.ones((4, 2, 1))], ids=lambda one: str(one.shape)
)
def test_sample_weights_that_fit_no_position(weights):
    logits = np.zeros((4, 3))
    with pytest.raises(ValueError, match="`sample_weight` must fit the shape"):
        TemperatureKD()(logits, logits, sample_weight=weights)


class Lazy(keras_ats.temperatures.Temperature):
    def __init__(self, value):
        self.value = value

    def __call__(self, lesson):
        return self.value


@pytest.mark.parametrize("value", [2.0, np.full((4, 1), 2.0)], ids=["float", "column"])
def test_a_rule_may_return_a_number(value):
    """A float failed for want of a shape."""
    logits = np.array([[3.0, 1.0, 0.0]] * 4, "float32")
    loss = keras_ats.losses.SoftTargetKD(Lazy(value))
    expected = TemperatureKD(2.0)(0 * logits, logits)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss(0 * logits, logits)),
        keras.ops.convert_to_numpy(expected),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "value", [np.ones(4), "hot", -1.0, None], ids=["short", "text", "negative", "nothing"]
)
def test_a_rule_that_returns_no_temperatures(value):
    logits = np.zeros((4, 3), "float32")
    with pytest.raises((TypeError, ValueError), match=r"Lazy returned no temperature.*Received"):
        keras_ats.losses.SoftTargetKD(Lazy(value))(logits, logits)
