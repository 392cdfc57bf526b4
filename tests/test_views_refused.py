"""Endings that are not known, and models that must say what they return."""

import functools

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from view_cases import (
    CLASSES,
    FEATURES,
    STEPS,
    dense,
    functional,
    hidden_layer,
    mlp,
    numpy,
    run,
    sequential,
    state_of,
    vectors,
)

import keras_ats
from keras_ats.views import View
from keras_ats.views.keras_model import as_keras_model

pytestmark = cases_in_turn("what is refused is refused before a backend sees a tensor")


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Gate(layers.Layer):
    """Has an activation, but does not end in it."""

    def __init__(self, activation="softmax", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def call(self, inputs):
        return inputs * self.activation(inputs)


def softmax(x):
    """Called softmax, and is not."""
    return keras.ops.tanh(x)


def _add_relu(x):
    return layers.Add()([dense()()(x), dense("relu")()(x)])


def _join(first, second):
    return lambda h: layers.Concatenate()([dense(first)()(h), dense(second)()(h)])


def _forbidden_classes(h):
    return layers.Softmax()(dense()()(h), mask=keras.ops.greater(dense()()(h), 0))


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Halving(keras.Sequential):
    """Does something to its inputs that its graph does not show."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs / 2.0, training=training, mask=mask)


def halving(activation=None):
    parts = [keras.Input((FEATURES,)), hidden_layer(), layers.Dense(CLASSES, activation)]
    return Halving(parts, name="halving")


UNKNOWN = {
    "hard_sigmoid": (sequential(dense("hard_sigmoid")), "Dense .* with activation 'hard_sigmoid'"),
    "relu": (sequential(dense("relu")), "Dense .* with activation 'relu'"),
    "relu_of_two": (sequential(lambda: layers.Dense(2, "relu")), "Dense .* with activation 'relu'"),
    "tanh": (sequential(dense("tanh")), "Dense .* with activation 'tanh'"),
    "relu_layer": (sequential(dense(), layers.ReLU), "ReLU"),
    "tanh_layer": (
        sequential(dense(), lambda: layers.Activation("tanh")),
        "Activation .* with activation 'tanh'",
    ),
    "called_softmax": (sequential(dense(softmax)), "Dense .* with activation 'softmax'"),
    "other_axis_layer": (
        sequential(dense(), lambda: layers.Softmax(axis=1), shape=(STEPS, FEATURES)),
        "Softmax",
    ),
    "other_axis_operation": (
        functional(lambda h: keras.ops.softmax(dense()()(h), axis=1), shape=(STEPS, FEATURES)),
        "Softmax",
    ),
    "other_axis_activation": (
        sequential(
            dense(functools.partial(keras.activations.softmax, axis=1)), shape=(STEPS, FEATURES)
        ),
        "Dense",
    ),
    "pooled_softmax": (
        sequential(dense("softmax"), layers.GlobalAveragePooling1D, shape=(STEPS, FEATURES)),
        "GlobalAveragePooling1D .* after softmax",
    ),
    "pooled_relu": (
        sequential(dense("relu"), layers.GlobalAveragePooling1D, shape=(STEPS, FEATURES)),
        "GlobalAveragePooling1D .* after Dense .* with activation 'relu'",
    ),
    "flattened_softmax": (
        sequential(dense("softmax"), layers.Flatten, shape=(STEPS, FEATURES)),
        "Flatten .* after softmax",
    ),
    "classes_permuted": (
        sequential(dense("softmax"), lambda: layers.Permute((2, 1)), shape=(STEPS, FEATURES)),
        "Permute .* after softmax",
    ),
    "bilinear_softmax": (
        sequential(
            lambda: layers.Conv2D(CLASSES, 1, activation="softmax"),
            lambda: layers.UpSampling2D(2, interpolation="bilinear"),
            shape=models.IMAGE,
        ),
        "UpSampling2D .* after softmax",
    ),
    "softmax_beside_softmax": (
        functional(_join("softmax", "softmax")),
        "Concatenate .* after softmax",
    ),
    "softmax_beside_sigmoid": (
        functional(_join("softmax", "sigmoid")),
        "Concatenate .* after sigmoid and softmax",
    ),
    "summed_sigmoids": (
        functional(lambda h: dense("sigmoid")()(h) + dense("sigmoid")()(h)),
        "Add .* after sigmoid",
    ),
    "forbidden_classes": (functional(_forbidden_classes), "Softmax"),
    "rounded": (functional(lambda h: keras.ops.cast(dense("sigmoid")()(h), "int32")), "Cast"),
    "lambda": (sequential(dense(), lambda: layers.Lambda(lambda x: x / 2)), "Lambda"),
    "add_relu": (functional(_add_relu), "Add"),
    "recurrent": (
        sequential(
            lambda: layers.SimpleRNN(CLASSES, activation="softmax"), shape=(STEPS, FEATURES)
        ),
        "SimpleRNN",
    ),
    "own_layer": (sequential(dense(), Gate), "Gate"),
    "own_layer_linear": (sequential(dense(), lambda: Gate("linear")), "Gate"),
    "regularized_identity": (
        sequential(dense("softmax"), lambda: layers.Identity(activity_regularizer="l2")),
        "Identity",
    ),
    "nested": (
        lambda: keras.Sequential(
            [keras.Input((FEATURES,)), sequential(dense("relu"))(), layers.Identity()]
        ),
        "Dense .* with activation 'relu'",
    ),
    "subclassed_inside": (
        lambda: keras.Sequential([keras.Input((FEATURES,)), models.Subclassed(name="inside")]),
        "subclassed model 'inside'",
    ),
    "own_call_inside": (
        lambda: keras.Sequential([keras.Input((FEATURES,)), halving()]),
        "model 'halving' with a `call` of its own",
    ),
}


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_endings_are_errors(name, role):
    build, layer = UNKNOWN[name]
    model = build()
    message = (
        rf"The {role} '{model.name}' ends in (the )?{layer}.*Expected.*logits.*softmax"
        rf".*{role}_from_logits=True"
    )
    state = state_of(model)
    with pytest.raises(ValueError, match=message):
        View(model, None, role)
    assert state_of(model) == state
    # The user's word counts.
    assert View(model, True, role).model is model


def test_the_error_reaches_the_user_of_distiller():
    good, bad = models.linear(), sequential(dense("tanh"))()
    with pytest.raises(ValueError, match="teacher_from_logits=True"):
        keras_ats.Distiller(bad, good)
    with pytest.raises(ValueError, match="student_from_logits=True"):
        keras_ats.Distiller(good, bad)
    keras_ats.Distiller(bad, models.linear(), teacher_from_logits=True)
    keras_ats.Distiller(models.linear(), bad, student_from_logits=True)


def test_probabilities_at_a_linear_end_are_doubted():
    with pytest.raises(ValueError, match=r"teacher.*teacher_from_logits=False"):
        View(models.linear(), False, "teacher")


def test_said_probabilities_of_a_readable_model_are_read_at_the_logits(rng):
    model, x = models.sequential(softmax=True), vectors(rng)
    logits, _ = run(View(model, False, "teacher"), x)
    np.testing.assert_allclose(logits, mlp(model.get_weights(), x), atol=1e-5)


def test_a_subclassed_model_must_say():
    for role in ("teacher", "student"):
        with pytest.raises(ValueError, match=rf"{role} .*subclassed.*{role}_from_logits=True"):
            View(models.subclassed(), None, role)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_subclassed_model_may_say_so_itself(softmax, rng):
    model, x = models.subclassed(softmax=softmax), vectors(rng)
    model.returns_logits = not softmax
    said = run(View(model, not softmax, "teacher"), x)
    np.testing.assert_array_equal(run(View(model, None, "teacher"), x), said)
    # The argument is nearer than the class.
    as_they_are = View(model, True, "teacher")(x).logits
    np.testing.assert_array_equal(numpy(as_they_are), numpy(model(x)))


def test_a_subclassed_model_of_logits(rng):
    model = models.subclassed()
    view = View(model, True, "teacher")
    assert view.model is model
    said = view(vectors(rng))
    assert view.predictions(said) is said.logits


def test_a_subclassed_model_of_probabilities(rng):
    model, x = models.subclassed(softmax=True), vectors(rng)
    logits, outputs = run(View(model, False, "teacher"), x)
    log_p = np.log(model.predict(x, verbose=0).astype("float64"))
    np.testing.assert_allclose(logits, log_p - log_p.mean(-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_model_with_its_own_call_must_say(role, rng):
    model, x = halving(), vectors(rng)
    with pytest.raises(ValueError, match=rf"{role} .*`call` of its own.*{role}_from_logits=True"):
        View(model, None, role)
    logits, outputs = run(View(model, True, role), x)
    np.testing.assert_allclose(logits, mlp(model.get_weights(), x / 2), atol=1e-5)
    np.testing.assert_array_equal(outputs, logits)
    # So does one whose `call` was put into it.
    patched = models.sequential()
    patched.call = lambda inputs, **kwargs: inputs
    with pytest.raises(ValueError, match="`call` of its own"):
        View(patched, None, role)


def test_a_model_with_its_own_call_that_returns_probabilities(rng):
    model, x = halving("softmax"), vectors(rng)
    logits, outputs = run(View(model, False, "teacher"), x)
    expected = mlp(model.get_weights(), x / 2)
    np.testing.assert_allclose(logits, expected - expected.mean(-1, keepdims=True), atol=1e-5)
    np.testing.assert_array_equal(outputs, numpy(model(x)))


def test_a_model_with_its_own_call_may_stand_within_others(rng):
    # In front of the ending it is run as it is; at the end it may speak for itself.
    inner, x = halving(), vectors(rng)
    outer = keras.Sequential([keras.Input((FEATURES,)), inner, layers.Softmax()])
    logits, _ = run(View(outer, None, "teacher"), x)
    np.testing.assert_allclose(logits, mlp(inner.get_weights(), x / 2), atol=1e-5)
    inner.returns_logits = True
    outer = keras.Sequential([keras.Input((FEATURES,)), inner])
    assert View(outer, None, "teacher").endings == {outer.name: "logits"}


def _two_heads(**heads):
    inputs = keras.Input((FEATURES,), name="inputs")
    first = hidden_layer()(inputs)
    return keras.Model(inputs, {name: head(first) for name, head in heads.items()})


def test_an_output_that_nobody_asks_for_may_end_as_it_likes(rng):
    model = _two_heads(a=layers.Dense(CLASSES, "softmax"), b=layers.Dense(2, "relu"))
    view, x = View(model, None, "student"), vectors(rng)
    assert view.endings == {"a": "softmax", "b": "unknown"}
    assert view.families == {"a": "softmax", "b": None}
    said = view(x)
    assert set(said.logits) == set(view.shapes.logits) == {"a"}
    predictions = view.predictions(said)
    for name, expected in model(x).items():
        np.testing.assert_allclose(numpy(predictions[name]), numpy(expected), atol=1e-6)
    view.require(["a"])
    message = r"relu' at its output 'b'.*student_from_logits=\{'b': True\}"
    with pytest.raises(ValueError, match=message):
        view.require(["a", "b"])
    with pytest.raises(ValueError, match=message):
        View(model, None, "student", outputs=["b"])
    with pytest.raises(ValueError, match=r"no output of this name.*'c'.*\['a', 'b'\]"):
        view.require(["c"])


def test_each_output_may_be_spoken_of(rng):
    model = _two_heads(a=layers.Dense(CLASSES, "softmax"), b=layers.Dense(2, "relu"))
    x = vectors(rng)
    view = View(model, {"b": True}, "teacher")
    assert view.endings == {"a": "softmax", "b": "logits"}
    np.testing.assert_allclose(numpy(view(x).logits["b"]), numpy(model(x)["b"]), atol=1e-6)
    with pytest.raises(ValueError, match=r"`teacher_from_logits` names.*'c'.*\['a', 'b'\]"):
        View(model, {"c": True}, "teacher")
    with pytest.raises(TypeError, match="teacher_from_logits"):
        View(model, {"b": "yes"}, "teacher")
    assert View(model, {"b": np.True_}, "teacher").endings["b"] == "logits"


def test_a_model_may_hand_on_an_input(rng):
    inputs = keras.Input((FEATURES,), name="raw")
    model = keras.Model(inputs, {"a": layers.Dense(CLASSES, "softmax")(inputs), "raw": inputs})
    view, x = View(model, None, "teacher"), vectors(rng)
    assert view.endings == {"a": "softmax", "raw": "unknown"}
    np.testing.assert_array_equal(numpy(view.predictions(view(x))["raw"]), x)
    with pytest.raises(ValueError, match="ends in the input 'raw' at its output 'raw'"):
        view.require(["raw"])
    inner = keras.Model(inputs, inputs)
    with pytest.raises(ValueError, match="ends in the input"):
        View(keras.Sequential([keras.Input((FEATURES,)), inner]), None, "teacher")


def test_probabilities_are_taken_back_as_the_loss_says(rng):
    model, x = models.subclassed(softmax=True), vectors(rng)
    probabilities = model.predict(x, verbose=0).astype("float64")
    view = View(model, False, "teacher")
    assert view.endings == {model.name: "probabilities"}
    view = view.with_probabilities_of("sigmoid")
    assert view.families == {model.name: "sigmoid"}
    logits, outputs = run(view, x)
    np.testing.assert_allclose(logits, np.log(probabilities / (1 - probabilities)), atol=1e-5)
    np.testing.assert_allclose(outputs, probabilities, atol=1e-6)
    # What the graph tells needs nobody's word.
    known = View(models.linear(softmax=True), None, "teacher").with_probabilities_of("sigmoid")
    assert list(known.endings.values()) == ["softmax"]


@pytest.mark.parametrize("inverse", [None, "softmax"])
def test_one_unit_is_a_sigmoids(inverse, rng):
    x = vectors(rng)
    model = sequential(lambda: layers.Dense(1, "hard_sigmoid"))()
    view = View(model, False, "teacher")
    view = view.with_probabilities_of(inverse) if inverse else view
    probabilities = numpy(model(x)).astype("float64")
    np.testing.assert_allclose(
        numpy(view(x).logits), np.log(probabilities / (1 - probabilities)), atol=1e-5
    )
    assert view.endings == {model.name: "sigmoid" if inverse else "probabilities"}


def test_a_model_of_another_keras_is_named():
    class Sequential:
        __module__ = "tf_keras.src.engine.sequential"

    with pytest.raises(TypeError, match=r"model of Keras 2.*load it with keras"):
        as_keras_model(Sequential(), "`teacher`", "Distiller(teacher, student)")
    with pytest.raises(TypeError, match=r"Received: 'resnet' of type str\. Expected: Distiller"):
        as_keras_model("resnet", "`teacher`", "Distiller(teacher, student)")
