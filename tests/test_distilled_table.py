"""Each ending, in each structure, as teacher and as student: distilled right, or refused.

Where the error names a remedy it is followed, and gives the right value.
"""

import keras
import models
import numpy as np
import pytest
import view_cases
from backends import cases_in_turn
from test_views_table import HEADS, STRUCTURES, _model
from view_cases import mlp

import keras_ats
from keras_ats import losses

pytestmark = cases_in_turn("the endings are read on each backend in test_views_table.py")

ASKS = ("own_call", "subclassed")
# Not the whole product: each ending as teacher and as student, each structure with each ending.
TABLE = [
    (ending, structure, list(STRUCTURES)[(row + column + 2) % len(STRUCTURES)])
    for row, ending in enumerate(HEADS)
    for column, structure in enumerate(STRUCTURES)
    if (row + column) % 2 == 0
]


def several(structure):
    return structure.endswith("two")


def kd_loss(ending):
    if ending == "regression":
        return losses.RegressionKD()
    return losses.BernoulliKD(4, 2) if "sigmoid" in ending else losses.TemperatureKD(2.0)


def logits(model, ending, x):
    """What the distillation loss should see, float64."""
    head = [weight for weight in model.get_weights() if weight.shape[-1] != 2]
    z = mlp(head, x / 2 if ending.startswith("own_call") else x)
    return z[:, None] if ending == "reshape_after_softmax" else z


def expected(ending, y, z, f):
    if ending == "regression":
        return ((z - y) ** 2).mean(), ((z - f) ** 2).mean()
    if "sigmoid" in ending:
        return models.binary_cross_entropy(y, z).mean(), models.bernoulli_kd(y, z, f).mean()
    return models.cross_entropy(models.one_hot(y), z).mean(), models.kd(z, f, 2.0).mean()


def labels(ending, z, rng):
    if ending == "regression":
        return rng.normal(size=z.shape).astype("float32")
    if "sigmoid" in ending:
        return rng.integers(2, size=z.shape)
    return rng.integers(z.shape[-1], size=z.shape[:-1])


def said_of(ending, structure):
    is_logits = ending in ASKS
    return {"aux": True, "o": is_logits} if several(structure) else is_logits


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Nobody reads `aux`.
@pytest.mark.parametrize(("ending", "of_teacher", "of_student"), TABLE, ids=map("-".join, TABLE))
def test_every_ending_in_every_structure(ending, of_teacher, of_student, rng):
    x = view_cases.vectors(rng)
    teacher, student = _model(ending, of_teacher), _model(ending, of_student)
    teacher(x), student(x)
    said = {}
    if ending.startswith(ASKS):
        for role, structure in (("teacher", of_teacher), ("student", of_student)):
            with pytest.raises(ValueError, match=rf"{role}_from_logits=.*True"):
                keras_ats.Distiller(teacher, student, **said)
            said[f"{role}_from_logits"] = said_of(ending, structure)
    distiller = keras_ats.Distiller(teacher, student, **said)
    both = several(of_teacher) or several(of_student)
    if both:
        with pytest.raises(ValueError, match=r"several outputs.*Pass a dict such as"):
            distiller.compile("sgd", "auto", kd_loss(ending))
    given = {"o": kd_loss(ending)} if both else kd_loss(ending)
    z, f = logits(student, ending, x), logits(teacher, ending, x)
    y = labels(ending, z, rng)
    supervised, taught = expected(ending, y, z, f)
    loss = "auto"
    if several(of_student):
        if not ending.startswith(ASKS):
            with pytest.raises(ValueError, match=r"loss='auto' cannot tell.*'aux'.*Pass a loss"):
                distiller.compile("sgd", "auto", given)
        loss = None
    distiller.compile("sgd", loss, given, evaluate_teacher=True, run_eagerly=True)
    logs = distiller.evaluate(
        x, {"o": y} if several(of_student) else y, verbose=0, return_dict=True
    )
    assert logs["kd_loss"] == pytest.approx(taught, rel=1e-3)
    if loss == "auto":
        assert logs["student_loss"] == pytest.approx(supervised, rel=1e-3)
    keras.tree.assert_same_structure(distiller.predict(x, verbose=0), student.predict(x, verbose=0))
    assert np.isfinite(distiller.train_on_batch(x, {"o": y} if several(of_student) else y)).all()
