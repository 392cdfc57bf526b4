"""Every ending in every structure of outputs: read right, or refused with a remedy that helps."""

import keras
import models
import numpy as np
import pytest
import view_cases
from keras import layers
from view_cases import CLASSES, FEATURES, hidden_layer, mlp, numpy

import keras_ats
from keras_ats.views import View, at_logits


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class OwnCall(keras.Model):
    """A Functional model that does something to its inputs before its graph runs."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs / 2.0, training=training, mask=mask)


class Structured(keras.Model):
    """A subclassed model that returns what another one returns."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        said = self.inner(inputs)
        # Keras takes a list of one apart, code of one's own need not.
        return [said] if isinstance(self.inner.output, list) and keras.ops.is_tensor(said) else said


HEADS = {
    "logits": [lambda: layers.Dense(CLASSES, name="o")],
    "softmax": [lambda: layers.Dense(CLASSES, "softmax", name="o")],
    "log_softmax": [lambda: layers.Dense(CLASSES, "log_softmax", name="o")],
    "sigmoid_one": [lambda: layers.Dense(1, "sigmoid", name="o")],
    "sigmoid_many": [lambda: layers.Dense(CLASSES, "sigmoid", name="o")],
    "regression": [lambda: layers.Dense(1, name="o")],
    "reshape_after_softmax": [
        lambda: layers.Dense(CLASSES, "softmax"),
        lambda: layers.Reshape((1, CLASSES), name="o"),
    ],
    "own_call": [lambda: layers.Dense(CLASSES, name="o")],
    "own_call_softmax": [lambda: layers.Dense(CLASSES, "softmax", name="o")],
    "own_call_sigmoid": [lambda: layers.Dense(1, "sigmoid", name="o")],
    "subclassed": [lambda: layers.Dense(CLASSES, name="o")],
    "subclassed_softmax": [lambda: layers.Dense(CLASSES, "softmax", name="o")],
}
STRUCTURES = {
    "single": lambda o, aux: o,
    "list_of_one": lambda o, aux: [o],
    "dict_of_one": lambda o, aux: {"o": o},
    "list_of_two": lambda o, aux: [aux, o],
    "dict_of_two": lambda o, aux: {"o": o, "aux": aux},
}


def _model(ending, structure):
    inputs = keras.Input((FEATURES,))
    first = hidden_layer()(inputs)
    o = first
    for make in HEADS[ending]:
        o = make()(o)
    outputs = STRUCTURES[structure](o, layers.Dense(2, "relu", name="aux")(first))
    if ending.startswith("own_call"):
        return OwnCall(inputs, outputs)
    model = keras.Model(inputs, outputs)
    return Structured(model) if ending.startswith("subclassed") else model


def _remedy(view_of, names, is_logits):
    """Follows what the error says: the model must say what it returns."""
    with pytest.raises(ValueError, match=r"teacher_from_logits=.*True.* if it returns logits"):
        view_of(None)
    return view_of(is_logits if names == ["o"] else dict.fromkeys(names, is_logits))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("ending", HEADS)
def test_every_ending_in_every_structure(ending, structure, rng):
    model, x = _model(ending, structure), view_cases.vectors(rng)
    model(x)
    names = ["aux", "o"] if structure.endswith("two") else ["o"]
    if ending.startswith(("own_call", "subclassed")):
        is_logits = ending in ("own_call", "subclassed")
        view = _remedy(lambda said: View(model, said, "teacher"), names, is_logits)
    else:
        view = View(model, None, "teacher", outputs=["o"] if structure != "single" else None)
    said = view(x)
    logits = said.logits["o"] if len(names) > 1 else said.logits

    head = [weight for weight in model.get_weights() if weight.shape[-1] != 2]
    expected = mlp(head, x / 2 if ending.startswith("own_call") else x)
    if ending in ("own_call_softmax", "subclassed_softmax"):
        expected = expected - expected.mean(-1, keepdims=True)
    np.testing.assert_allclose(numpy(logits), expected.reshape(logits.shape), rtol=1e-4, atol=1e-5)
    # What the model returns is returned, whichever way it was read.
    predictions, plain = view.predictions(said), model(x)
    keras.tree.assert_same_structure(predictions, plain)
    for one, other in zip(*map(keras.tree.flatten, (predictions, plain)), strict=True):
        np.testing.assert_allclose(numpy(one), numpy(other), atol=1e-6)


@pytest.mark.parametrize("structure", ["single", "list_of_one", "dict_of_one"])
def test_old_idioms_train(structure, rng):
    x, y = models.features(rng, 8)
    student, teacher = (_model("softmax", structure) for _ in range(2))
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.TemperatureKD(), run_eagerly=True)
    loss = distiller.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    logits = numpy(View(student, None, "student")(x).logits)
    expected = models.cross_entropy(models.one_hot(y), logits).mean()
    assert loss == pytest.approx(expected, abs=1e-5)
    assert np.isfinite(distiller.train_on_batch(x, y)).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_at_logits(structure, rng, tmp_path):
    model, x = _model("softmax", structure), view_cases.vectors(rng)
    from_logits = {"aux": True} if structure.endswith("two") else None
    bare = at_logits(model, from_logits)
    assert isinstance(bare, keras.Model)
    head = [weight for weight in model.get_weights() if weight.shape[-1] != 2]
    said = bare.predict(x, verbose=0)
    logits = said["o"] if isinstance(said, dict) else said[1] if isinstance(said, list) else said
    np.testing.assert_allclose(logits, mlp(head, x), atol=1e-5)
    if structure == "single":
        bare.save(tmp_path / "logits.keras")
        loaded = keras.saving.load_model(tmp_path / "logits.keras")
        np.testing.assert_allclose(loaded.predict(x, verbose=0), logits, atol=1e-6)


def test_at_logits_returns_a_model_of_logits_itself():
    model = models.linear()
    assert at_logits(model) is model
    assert at_logits(models.linear(softmax=True)).name.endswith("_logits")


@pytest.mark.parametrize(
    ("model", "from_logits", "error", "message"),
    [
        ("resnet", None, TypeError, "`model` must be a keras.Model"),
        (models.subclassed, None, ValueError, r"subclassed model .* from_logits=True"),
        (models.subclassed, False, ValueError, r"do not stand in its graph.*bernoulli_logits"),
        (
            view_cases.sequential(view_cases.dense("relu")),
            None,
            ValueError,
            "'relu'.* from_logits=",
        ),
    ],
)
def test_at_logits_errors(model, from_logits, error, message):
    with pytest.raises(error, match=message):
        at_logits(model() if callable(model) else model, from_logits)
