"""Any model is read at its logits, whatever it makes of them."""

import keras
import models
import numpy as np
import pytest
import view_cases
from backends import cases_in_turn
from keras import layers
from view_cases import CLASSES, FEATURES, LOGITS, READ, numpy, run

from keras_ats.views import View
from keras_ats.views.graph import graph_inputs


@cases_in_turn("read on each backend in test_views_table.py")
@pytest.mark.parametrize("name", READ)
def test_endings_are_read_at_their_logits(name, rng):
    case = READ[name]
    model, x = case.build(), case.inputs(rng)
    view = View(model, None, "teacher")
    assert list(view.endings.values()) == [case.ending]
    logits, outputs = run(view, x)
    expected = case.expected_logits(model, x)
    np.testing.assert_allclose(logits, expected, atol=case.tolerance)
    # Half-precision logits are what they are; what follows from them is exact.
    predictions = numpy(model(x))
    np.testing.assert_allclose(
        case.expected_outputs(logits), predictions, atol=case.output_tolerance
    )
    np.testing.assert_allclose(outputs, predictions, atol=1e-6)
    assert outputs.dtype == predictions.dtype


@cases_in_turn("each ending is read by the same copy of the graph")
@pytest.mark.parametrize("name", READ)
def test_weights_are_shared(name, rng):
    case = READ[name]
    model, x = case.build(), case.inputs(rng)
    view = View(model, None, "student")
    assert {id(v) for v in view.model.weights} == {id(v) for v in model.weights}
    before, _ = run(view, x)
    model.set_weights([2 * weight for weight in model.get_weights()])
    after, outputs = run(view, x)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(outputs, numpy(model(x)), atol=1e-6)


@cases_in_turn("read on each backend in test_views_table.py")
@pytest.mark.parametrize("name", LOGITS)
def test_logits_endings_are_left_alone(name):
    model = LOGITS[name]()
    view = View(model, None, "teacher")
    assert view.model is model
    assert list(view.endings.values()) == ["logits"]
    said = view(keras.tree.map_structure(lambda x: np.ones((2, *x.shape[1:])), graph_inputs(model)))
    assert view.predictions(said) is said.logits


def test_several_outputs_are_read_one_by_one(rng):
    inputs = keras.Input((FEATURES,))
    hidden = view_cases.hidden_layer()(inputs)
    heads = {
        "coarse": layers.Dense(2)(hidden),
        "fine": layers.Dense(CLASSES, "softmax")(hidden),
        "tags": layers.Dense(4, "sigmoid")(hidden),
    }
    model, x = keras.Model(inputs, heads), view_cases.vectors(rng)
    view = View(model, None, "student")
    assert view.endings == {"coarse": "logits", "fine": "softmax", "tags": "sigmoid"}
    logits, outputs = run(view, x)
    kernel, bias, *_ = model.get_weights()
    for head, units in (("fine", CLASSES), ("tags", 4)):
        weights = [w for w in model.get_weights() if w.shape[-1] == units]
        expected = np.tanh(x @ kernel + bias) @ weights[0] + weights[1]
        np.testing.assert_allclose(logits[head], expected, atol=1e-5)
    predictions = model.predict(x, verbose=0)
    for head in heads:
        np.testing.assert_allclose(outputs[head], predictions[head], atol=1e-6)


@pytest.mark.parametrize("shared", ["layer", "model"])
def test_outputs_may_share_their_ending(shared, rng):
    twin = layers.Dense(CLASSES, "softmax") if shared == "layer" else models.linear(softmax=True)
    inputs = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    model = keras.Model(inputs, [twin(tensor) for tensor in inputs])
    x = view_cases.pair_of_vectors(rng)
    view = View(model, None, "student")
    # Keras gives both the name of the layer.
    assert view.output_names == [twin.name, f"{twin.name}_1"]
    logits, outputs = run(view, x)
    kernel, bias = model.get_weights()
    for index, name in enumerate(view.output_names):
        np.testing.assert_allclose(logits[name], x[index] @ kernel + bias, atol=1e-5)
        np.testing.assert_allclose(outputs[index], numpy(model(x)[index]), atol=1e-6)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "activation", "time_distributed"])
def test_keras_masks_survive(ending, rng):
    heads = {
        "softmax": [layers.Dense(CLASSES, "softmax")],
        "sigmoid": [layers.Dense(CLASSES, "sigmoid")],
        "activation": [layers.Dense(CLASSES), layers.Activation("softmax")],
        "time_distributed": [layers.TimeDistributed(layers.Dense(CLASSES, "softmax"))],
    }
    model = keras.Sequential(
        [
            keras.Input((models.TOKENS,), dtype="int32"),
            layers.Embedding(models.VOCABULARY, 4, mask_zero=True),
            *heads[ending],
        ]
    )
    x, _ = models.sentences(rng)
    view = View(model, None, "student")
    said = view(x)
    # On TensorFlow and torch `x` is made a tensor by Keras; the mask compares it with 0.
    for tensor in (model(x), said.logits, view.predictions(said)):
        np.testing.assert_array_equal(numpy(tensor._keras_mask), x != 0)
    np.testing.assert_array_equal(numpy(said.mask), x != 0)


def test_names_of_the_view_do_not_clash(rng):
    model = view_cases.sequential(
        view_cases.dense(name="class_logits"),
        lambda: layers.Activation("softmax", name="class"),
    )()
    x = view_cases.vectors(rng)
    logits, _ = run(View(model, None, "teacher"), x)
    np.testing.assert_allclose(logits, view_cases.mlp(model.get_weights(), x), atol=1e-5)


def test_a_removed_activation_is_none():
    model = models.linear(softmax=True)
    model.layers[-1].activation = None  # A common way to get at the logits.
    assert View(model, None, "teacher").model is model


def test_inner_layers_are_read_beside_any_ending(rng):
    model, x = models.sequential(softmax=True), view_cases.vectors(rng)
    name = model.layers[0].name
    said = View(model, None, "teacher", features=(name,))(x)
    kernel, bias, *_ = model.get_weights()
    np.testing.assert_allclose(numpy(said.features[name]), np.tanh(x @ kernel + bias), atol=1e-5)
    np.testing.assert_allclose(
        numpy(said.logits), view_cases.mlp(model.get_weights(), x), atol=1e-5
    )
