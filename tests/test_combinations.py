"""Every temperature rule with every adjustment, standardised or not, on every form of labels."""

import itertools
import math

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn

import keras_ats
from keras_ats import adjustments, temperatures
from keras_ats.losses import SoftTargetKD

pytestmark = cases_in_turn("every part has tests of its own on each backend")

RULES = {
    "constant": lambda: temperatures.Constant(3.0),
    "asymmetric": lambda: temperatures.Asymmetric(4.0, 2.0),
    "focal": lambda: temperatures.FocalWeighted(3.0),
    "confidence": lambda: temperatures.ConfidenceWeighted(3.0),
    "learned": lambda: temperatures.Learned(),
    "asymmetric-focal": lambda: temperatures.Product(
        temperatures.Asymmetric(4.0, 2.0), temperatures.FocalWeighted(1.0, 0.3, minimum=0.5)
    ),
}
ADJUSTMENTS = {"none": lambda: None, "swap": adjustments.Swap, "smooth": adjustments.Smooth}


def samples(rng):
    return *models.features(rng, 8), models.sequential(6), models.sequential(4)


def in_order(name, standardize):
    rules = [adjustments.Standardize()] if standardize else []
    return [*rules, *filter(None, [ADJUSTMENTS[name]()])] or None


def pixels(rng):
    return *models.images(rng, 8), models.dense_conv(4), models.dense_conv(2)


def tokens(rng):
    return *models.sentences(rng, 8), models.tokens(4), models.tokens(3)


def pairs():
    """Each rule, adjustment, standardisation and kind of data meets every one of the others.

    Pairs, not the product of 108: rule, adjustment and standardisation meet within the loss, whose
    values the last test compares in all their combinations; what trains, saves and loads it does
    not know which of them it holds, and sees the axes of the data before any of them.
    """
    for (i, rule), (j, adjustment) in itertools.product(enumerate(RULES), enumerate(ADJUSTMENTS)):
        yield rule, adjustment, (i // 3 + j) % 2 == 1, (samples, pixels, tokens)[(i + j) % 3]


def test_pairs_are_all_the_pairs():
    for first, second in itertools.combinations(range(4), 2):
        found = {(row[first], row[second]) for row in pairs()}
        assert len(found) == math.prod((6, 3, 2, 3)[axis] for axis in (first, second))


@pytest.mark.parametrize(("rule", "adjustment", "standardize", "data"), list(pairs()))
def test_trains_saves_and_loads(rule, adjustment, standardize, data, rng, tmp_path):
    x, ids, teacher, student = data(rng)
    one_hot = np.eye(models.CLASSES, dtype="float32")[ids]
    forms = {"ids": ids, "one-hot": one_hot, "soft": 0.9 * one_hot + 0.1 / models.CLASSES}
    rule = RULES[rule]()
    loss = SoftTargetKD(
        rule,
        student_temperature=1.0 if rule.per_class else None,
        adjustment=in_order(adjustment, standardize),
    )
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=loss, evaluate_teacher=True, run_eagerly=True)

    for y in forms.values():
        logs = distiller.fit(x, y, batch_size=4, verbose=0).history
        assert np.isfinite(logs["kd_loss"][0])
        assert logs["kd_loss"][0] > 0
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    losses = {
        name: [
            model.evaluate(x, y, verbose=0, return_dict=True)["kd_loss"]
            for name, y in forms.items()
        ]
        for name, model in (("saved", distiller), ("loaded", loaded))
    }
    np.testing.assert_allclose(losses["loaded"], losses["saved"], rtol=1e-6)
    # Ids and one-hot rows are the same labels.
    np.testing.assert_allclose(losses["saved"][0], losses["saved"][1], rtol=1e-6)


def test_every_combination_is_a_different_loss(rng):
    student, teacher = rng.normal(0, 3, (2, 8, 5)).astype("float32")
    labels = rng.integers(0, 5, 8)
    one_hot = np.eye(5, dtype="float32")[labels]
    values = {}
    for rule, adjustment, standardize in itertools.product(RULES, ADJUSTMENTS, [False, True]):
        part = RULES[rule]()
        loss = SoftTargetKD(
            part,
            student_temperature=1.0 if part.per_class else None,
            adjustment=in_order(adjustment, standardize),
        )
        value, of_one_hot, of_soft = (
            keras.ops.convert_to_numpy(loss(student, teacher, labels=rows))
            for rows in (labels, one_hot, 0.9 * one_hot + 0.02)
        )
        np.testing.assert_allclose(of_one_hot, value, rtol=1e-6)
        assert np.isfinite(of_soft)
        assert of_soft > 0
        values[rule, adjustment, standardize] = round(float(value), 6)
    assert len(set(values.values())) == len(values)
