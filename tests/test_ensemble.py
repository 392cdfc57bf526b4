"""Ensembles: members of every ending, and members that do not belong together."""

import keras
import models
import numpy as np
import pytest
from keras import layers
from view_cases import CLASSES, FEATURES, activated, hidden_layer, numpy, vectors

from keras_ats.teachers import Ensemble
from keras_ats.views import View


def _sigmoid(units=CLASSES, activation="sigmoid"):
    return keras.Sequential([keras.Input((FEATURES,)), layers.Dense(units, activation)])


@pytest.mark.parametrize("units", [1, CLASSES])
def test_units_are_mixed_one_by_one(units, rng):
    x, members = vectors(rng), [_sigmoid(units), _sigmoid(units, None if units == 1 else "sigmoid")]
    mixed = [activated(numpy(View(one, None, "teacher")(x).logits), "sigmoid") for one in members]
    logits = models.outputs(Ensemble(members, [3, 1]), x)
    expected = 0.75 * mixed[0] + 0.25 * mixed[1]
    np.testing.assert_allclose(activated(logits, "sigmoid"), expected, rtol=1e-5)


def test_logits_of_sigmoids_need_to_be_called_so(rng):
    x, members = vectors(rng), [_sigmoid(activation=None) for _ in range(2)]
    expected = np.mean([activated(models.outputs(one, x), "sigmoid") for one in members], axis=0)
    logits = models.outputs(Ensemble(members, probabilities_of="sigmoid"), x)
    np.testing.assert_allclose(activated(logits, "sigmoid"), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="must end alike"):
        Ensemble([_sigmoid(), models.linear(softmax=True)])
    with pytest.raises(ValueError, match=r"must end alike.*probabilities_of='softmax'"):
        Ensemble([_sigmoid()], probabilities_of="softmax")


def test_probabilities_of_code_of_the_users(rng):
    x, members = vectors(rng), [models.subclassed(softmax=True), models.subclassed(4, softmax=True)]
    logits = models.outputs(Ensemble(members, from_logits=False), x)
    expected = np.mean([models.outputs(one, x) for one in members], axis=0)
    np.testing.assert_allclose(activated(logits, "softmax"), expected, rtol=1e-5)
    # A model that has a graph, and does not run it as it is, is asked too.
    own = OwnCall([keras.Input((FEATURES,)), layers.Dense(CLASSES)])
    with pytest.raises(ValueError, match=r"`call` of its own.*teacher_from_logits=True"):
        Ensemble([models.linear(), own])


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class OwnCall(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs / 2.0, training=training, mask=mask)


def _two_heads(second="b"):
    inputs = keras.Input((FEATURES,))
    first = hidden_layer()(inputs)
    heads = {"a": layers.Dense(CLASSES, "softmax"), second: layers.Dense(2, "sigmoid")}
    return keras.Model(inputs, {name: head(first) for name, head in heads.items()})


def test_several_outputs_are_mixed_by_name(rng):
    x, members = vectors(rng), [_two_heads(), _two_heads()]
    ensemble = Ensemble(members)
    assert View(ensemble, None, "teacher").output_names == ["a", "b"]
    logits, said = ensemble(x), [member(x) for member in members]
    for name, ending in (("a", "softmax"), ("b", "sigmoid")):
        expected = np.mean([numpy(one[name]) for one in said], axis=0)
        np.testing.assert_allclose(activated(numpy(logits[name]), ending), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda: [models.linear(), _sigmoid(4, None)], r"same classes. Received: 3 of .* and 4 of"),
        (
            lambda: [models.linear(), keras.Sequential([keras.Input((8,)), layers.Dense(CLASSES)])],
            r"same inputs.*\(None, 5\).* of 'sequential.*\(None, 8\)",
        ),
        (lambda: [_two_heads(), _two_heads("c")], r"name their outputs alike.*\['a', 'c'\]"),
        (lambda: [_two_heads(), models.linear()], "name their outputs alike"),
    ],
)
def test_members_that_differ_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(members())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teachers": None}, "`teachers` must be a list of models. Received: teachers=None"),
        ({"teachers": "ab"}, "`teachers` must be a list of models"),
        ({"teachers": models.linear}, "`teachers` must be a list of models"),
        ({"teachers": [None]}, "Each of `teachers` must be a keras.Model. Received: None"),
        ({"weights": "ab"}, "`weights` must hold one number per teacher. Received: weights='ab'"),
        ({"weights": 2.0}, "`weights` must hold one number per teacher"),
        ({"weights": ["a", "b"]}, "`weights`"),
        ({"from_logits": "yes"}, "teacher_from_logits"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    if callable(arguments.get("teachers")):
        arguments = {"teachers": models.linear()}
    arguments = {"teachers": [models.linear(), models.linear()]} | arguments
    with pytest.raises(TypeError, match=message):
        Ensemble(**arguments)


def test_arguments_survive_a_file(tmp_path):
    ensemble = Ensemble([_sigmoid(activation=None)], probabilities_of="sigmoid")
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert loaded.probabilities_of == "sigmoid"
