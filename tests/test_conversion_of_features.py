"""What docs/other_code.md says of losses on inner layers is true, entry by entry."""

import functools

import golden_cases
import keras
import numpy as np
import pytest
from backends import on_one_backend
from keras import layers
from other_code import entries

from keras_ats import Distiller, features

ENTRIES = entries("Inner layers")
CLASSES = 3
# The method's name among the golden numbers, and their weight, by what the other code says.
NUMBERS = {
    "--distill hint -r 1 -a 0 -b 100": ("fitnet", 100),
    "--distill attention -r 1 -a 0 -b 1000": ("at", 1000),
    "--distill similarity -r 1 -a 0 -b 3000": ("sp", 3000),
    "--distill nst -r 1 -a 0 -b 50": ("nst", 50),
    "--distill rkd -r 1 -a 0 -b 1": ("rkd", 1),
    "--distill pkt -r 1 -a 0 -b 30000": ("pkt", 30000),
    "--distill correlation -r 1 -a 0 -b 0.02": ("cc", 0.02),
    "AT.LOSS.FEAT_WEIGHT 1000, CE_WEIGHT 1.0": ("at", 1000),
    "SP.LOSS.FEAT_WEIGHT 3000, CE_WEIGHT 1.0": ("sp", 3000),
    "RKD.DISTANCE_WEIGHT 25, ANGLE_WEIGHT 50": ("rkd", 1),
}
SHAPES = {"student": (4, 4, 6), "teacher": (4, 4, 10)}


def only_runs(entry):
    """Whether its loss has weights of its own, so that there is no number to compare."""
    return entry.note.startswith(": runs")


def model_of(role, shapes):
    """A model whose layers say what a half of its input says, and whose logits are 0."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    first = list(shapes).index(role) * sizes[0]
    kernel = np.zeros((sum(sizes), int(np.prod(shapes[role]))), "float32")
    kernel[first : first + kernel.shape[1]] = np.eye(kernel.shape[1])
    inputs = keras.Input((sum(sizes),))
    hidden = layers.Dense(kernel.shape[1], use_bias=False, name="pick")(inputs)
    name = "stage" if len(shapes[role]) == 3 else "pool"
    hidden = layers.Reshape(shapes[role], name=name)(hidden)
    if name == "stage":
        hidden = layers.BatchNormalization(name="before")(hidden)
        hidden = layers.GlobalAveragePooling2D(name="pool")(hidden)
    logits = layers.Dense(CLASSES, kernel_initializer="zeros", name="head")(hidden)
    model = keras.Model(inputs, logits, name=role)
    model.get_layer("pick").set_weights([kernel])
    return model


def compiled(entry, shapes):
    distiller = Distiller(model_of("teacher", shapes), model_of("student", shapes))
    entry.compile(functools.partial(distiller.compile, "sgd"), features)
    return distiller


def test_every_number_is_an_entry():
    assert {entry.their_call for entry in ENTRIES if not only_runs(entry)} == set(NUMBERS)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.their_call for entry in ENTRIES])
@on_one_backend("the golden tests have these losses on each")
def test_an_entry_is_what_the_other_code_does(entry, rng):
    if only_runs(entry):
        distiller = compiled(entry, SHAPES)
        size = sum(int(np.prod(shape)) for shape in SHAPES.values())
        x = {"x": rng.normal(size=(4, size)).astype("float32"), "ids": np.arange(4)}
        x = x if "Contrastive" in entry.our_call else x["x"]
        logs = distiller.train_on_batch(x, np.zeros(4, int), return_dict=True)
        assert np.isfinite(logs["loss"])
        return
    method, weight = NUMBERS[entry.their_call]
    cases = golden_cases.load("features_repdistiller")
    case = next(case for case in cases if str(case["method"]) == method)
    sides = {role: np.moveaxis(case[f"{role}_feat"], 1, -1) for role in ("student", "teacher")}
    distiller = compiled(entry, {role: side.shape[1:] for role, side in sides.items()})
    x = np.concatenate([side.reshape(len(side), -1) for side in sides.values()], axis=1)
    logs = distiller.train_on_batch(x, np.zeros(len(x), int), return_dict=True)
    np.testing.assert_allclose(logs["loss"], weight * case["loss"] + np.log(CLASSES), rtol=1e-4)
