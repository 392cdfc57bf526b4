"""Losses with a gradient of their own give what the plain form gives."""

import keras
import numpy as np
import pytest
from backends import on_one_backend
from keras import ops

import keras_ats
from keras_ats import _gradients
from keras_ats.losses import label_crossentropy, row_by_row, soft_target_kd
from keras_ats.ops import absent_classes, kept_classes
from keras_ats.teachers.cache.rows import RowFormat

ROWS, CLASSES = 13, 11
RNG = np.random.default_rng(0)
# Far from 0, where digits are lost unless the largest logit is taken off first.
STUDENT = (50 + 3 * RNG.standard_normal((ROWS, CLASSES))).astype("float32")
TEACHER = (4 * RNG.standard_normal((ROWS, CLASSES))).astype("float32")
IDS = RNG.integers(0, CLASSES, ROWS).astype("int32")
SOFT = RNG.dirichlet(np.ones(CLASSES), ROWS).astype("float32")
WEIGHTS = RNG.uniform(0.0, 1.0, ROWS).astype("float32")

ABSENT = STUDENT.copy(), TEACHER.copy()
for side in ABSENT:
    side[:, 3] = -np.inf
# One that the teacher has and the student has not.
ABSENT[0][2, 4] = -np.inf
OUT_OF_RANGE = np.where(np.arange(ROWS) == 3, -1, IDS).astype("int32")

KEPT = RowFormat(CLASSES, dtype="float32", top_k=3)
CARRIED = KEPT.carry(KEPT.encode(ABSENT[1], IDS))
LARGEST = keras_ats.TopKLogits(
    CARRIED["maximum"][:, None] + CARRIED["differences"],
    *(CARRIED[name] for name in ("ids", "maximum", "tail", "count", "mean")),
    CLASSES,
)

losses, temperatures = keras_ats.losses, keras_ats.temperatures


def label_loss(student, teacher, *, labels):
    return losses.LabelCrossentropy(reduction="none")(labels, student)


class OfRows(losses.KDLoss):
    """Any formula, its gradient made on the way forth; a cheap one, for what compiles."""

    @row_by_row.row_by_row
    def call(self, lesson):
        student, teacher = (
            ops.softmax(absent_classes.finite_logits(side.logits))
            for side in (lesson.student, lesson.teacher)
        )
        label = keras_ats.ops.label_distribution(lesson.labels, student)
        return ops.sum((1.0 + label) * ops.square(student - teacher), axis=-1)


CASES = {
    "KD": (losses.TemperatureKD(4.0, reduction="none"), STUDENT, TEACHER, IDS),
    "ATS": (losses.AsymmetricTemperatureKD(4, 2, reduction="none"), *ABSENT, IDS),
    "ATS, soft labels": (
        losses.AsymmetricTemperatureKD(4, 2, student_temperature=3.0, reduction="none"),
        STUDENT,
        TEACHER,
        SOFT,
    ),
    "ATS, a wrong id": (
        losses.AsymmetricTemperatureKD(4, 2, reduction="none"),
        STUDENT,
        TEACHER,
        OUT_OF_RANGE,
    ),
    "per sample": (
        losses.SoftTargetKD(temperatures.FocalWeighted(), reduction="none"),
        *ABSENT,
        IDS,
    ),
    "labels": (label_loss, ABSENT[0], TEACHER, np.where(IDS == 3, 5, IDS)),
    "soft labels": (label_loss, STUDENT, TEACHER, SOFT),
}
if keras.backend.backend() != "tensorflow":
    CASES["row by row"] = OfRows(reduction="none"), *ABSENT, OUT_OF_RANGE
if keras.backend.backend() == "torch":  # Nothing to compile.
    CASES |= {
        "ATS, the largest": (
            losses.AsymmetricTemperatureKD(4, 2, student_temperature=3.0, reduction="none"),
            ABSENT[0],
            LARGEST,
            IDS,
        ),
        "DKD": (losses.DecoupledKD(reduction="none"), *ABSENT, OUT_OF_RANGE),
        "DKD, soft labels": (losses.DecoupledKD(reduction="none"), STUDENT, TEACHER, SOFT),
        "NKD": (losses.NormalizedKD(3.0, reduction="none"), *ABSENT, OUT_OF_RANGE),
        "RLD": (losses.RefinedLogitKD(reduction="none"), *ABSENT, OUT_OF_RANGE),
    }


@pytest.fixture
def small_is_worth_it(monkeypatch):
    """Lets these small batches take the way of large ones, in several chunks."""
    monkeypatch.setattr(_gradients, "_WORTH_COMPILING", 1)
    for module in (label_crossentropy, row_by_row):
        monkeypatch.setattr(module, "_LEAST_ON_TORCH", 1)
    for chunk in ("_CHUNK", "_CHUNK_OF_MANY_CALLS"):
        monkeypatch.setattr(_gradients, chunk, 5 * CLASSES)


MODULES = soft_target_kd, label_crossentropy, row_by_row, kept_classes


def plainly(monkeypatch):
    for module in MODULES:
        monkeypatch.setattr(module, "is_worth_own_gradient", lambda *_: False)


def derivatives(function):
    """Values, gradient of their weighted sum, and gradient of that gradient's square."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        leaf = torch.tensor(function.student, requires_grad=True)
        values = function(leaf)
        (first,) = torch.autograd.grad((values * torch.tensor(WEIGHTS)).sum(), leaf)
        values = function(leaf)
        (again,) = torch.autograd.grad(
            (values * torch.tensor(WEIGHTS)).sum(), leaf, create_graph=True
        )
        np.testing.assert_allclose(first, again.detach(), rtol=1e-5, atol=1e-5)
        (second,) = torch.autograd.grad((again**2).sum(), leaf)
        return [one.detach().numpy() for one in (values, first, second)]
    if backend == "jax":
        import jax

        first = jax.grad(lambda student: (function(student) * WEIGHTS).sum())
        second = jax.grad(lambda student: (first(student) ** 2).sum())
        return [np.asarray(one(function.student)) for one in (function, first, second)]
    import tensorflow as tf

    # As `fit` does on a CPU: what has a gradient of its own is compiled all the same.
    @tf.function
    def run(student):
        with tf.GradientTape() as outer:
            outer.watch(student)
            with tf.GradientTape() as inner:
                inner.watch(student)
                values = function(student)
                total = tf.reduce_sum(values * WEIGHTS)
            first = inner.gradient(total, student)
            square = tf.reduce_sum(first**2)
        return values, first, outer.gradient(square, student)

    return [one.numpy() for one in run(tf.constant(function.student))]


class Case:
    def __init__(self, name):
        self.loss, self.student, self.teacher, self.labels = CASES[name]

    def __call__(self, student):
        return self.loss(student, self.teacher, labels=self.labels)


@pytest.mark.parametrize("name", CASES)
def test_as_the_plain_form(name, small_is_worth_it, monkeypatch):
    ways = []
    for module in MODULES:

        def counted(*arguments, asked=module.is_worth_own_gradient):
            ways.append(asked(*arguments))
            return ways[-1]

        monkeypatch.setattr(module, "is_worth_own_gradient", counted)
    lean = derivatives(Case(name))
    assert ways
    assert all(ways)
    plainly(monkeypatch)
    plain = derivatives(Case(name))
    for one, other in zip(lean[1:], plain[1:], strict=True):
        assert np.isfinite(one).all()
        # Where the student lacks a class, Keras's log-softmax loses its share on JAX.
        exact = np.isfinite(CASES[name][1]).sum(-1) >= CLASSES - 1
        np.testing.assert_allclose(one[exact], other[exact], rtol=2e-6, atol=2e-6)
    # Values carry the square of a temperature, by which rounding grows.
    np.testing.assert_allclose(lean[0], plain[0], rtol=2e-6, atol=2e-5)


def test_gradient_of_a_class_that_only_the_teacher_has(small_is_worth_it):
    """As if its probability were learned elsewhere: the others get `q_c - p_c`."""
    _, student, teacher, labels = CASES["ATS"]
    gradient = derivatives(Case("ATS"))[1]
    row = 2
    softened = teacher[row].astype("float64") / np.where(np.arange(CLASSES) == labels[row], 4, 2)
    present = np.isfinite(student[row])
    targets, answers = (
        np.exp(one - one.max()) / np.exp(one - one.max()).sum()
        for one in (softened, student[row].astype("float64"))
    )
    expected = WEIGHTS[row] * np.where(present, answers - targets, 0.0)
    np.testing.assert_allclose(gradient[row], expected, atol=1e-6)


class Own(temperatures.Constant):
    """May compute anything, from the student for one."""

    def __call__(self, lesson):
        return super().__call__(lesson)


class OtherDistance(losses.TemperatureKD):
    def distance(self, targets, log_probabilities):
        return ops.sum(ops.exp(targets) * ops.abs(targets - log_probabilities), axis=-1)


def with_trainable_temperature():
    loss = losses.TemperatureKD(4.0)
    loss.temperature.trainable = True
    return loss


@on_one_backend("what a loss is made of decides")
def test_what_takes_the_plain_way():
    ordinary = (
        losses.TemperatureKD(4.0),
        losses.AsymmetricTemperatureKD(4, 2, adjustment=keras_ats.adjustments.Swap()),
        losses.DynamicTemperatureKD(),
    )
    others = (
        losses.CurriculumTemperatureKD(),
        losses.SoftTargetKD(Own(4.0)),
        losses.SoftTargetKD(divergence="reverse_kl"),
        losses.TemperatureKD(4.0, adjustment=keras_ats.adjustments.Smooth(0.1)),
        losses.JensenShannonKD(),
        OtherDistance(4.0),
        with_trainable_temperature(),
    )
    assert [loss._is_ordinary for loss in ordinary] == [True] * len(ordinary)
    assert [loss._is_ordinary for loss in others] == [False] * len(others)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the others' plain way is as good")
def test_what_is_not_taken_row_by_row():
    class OtherTargets(losses.DecoupledKD):
        def soft_targets(self, lesson, temperature):
            return super().soft_targets(lesson, temperature)

    trained = losses.DecoupledKD()
    trained.temperature.trainable = True
    smooth = losses.DecoupledKD(adjustment=keras_ats.adjustments.Smooth(0.1))
    ordinary = losses.DecoupledKD(), losses.NormalizedKD(), losses.RefinedLogitKD()
    assert all(map(row_by_row._takes_rows, ordinary))
    assert not any(map(row_by_row._takes_rows, (OtherTargets(), trained, smooth)))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch keeps what it is told to")
def test_torch_keeps_the_logits_and_no_more():
    import torch

    student = torch.randn(64, 100, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = losses.AsymmetricTemperatureKD(4, 2)
        value = loss(student, torch.randn(64, 100), labels=torch.zeros(64, dtype=torch.long))
    assert sum(size for size in kept.values() if size > 64) == student.numel()
    value.backward(retain_graph=True)
    first, student.grad = student.grad, None
    value.backward()
    torch.testing.assert_close(student.grad, first)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's transformations")
def test_transformations_of_torch_take_the_plain_way():
    import torch

    loss = losses.TemperatureKD(4.0)
    student, teacher = torch.tensor(STUDENT), torch.tensor(TEACHER)
    leaf = student.clone().requires_grad_()
    loss(leaf, teacher).backward()
    gradient = torch.func.grad(lambda logits: loss(logits, teacher))(student)
    torch.testing.assert_close(gradient, leaf.grad)


@pytest.mark.parametrize(("count", "classes"), [(5, 9), (9, 5)])
def test_relations_by_the_smaller_matrix(count, classes):
    student, teacher = STUDENT[:count, :classes], TEACHER[:count, :classes]
    loss = losses.RelationKD(temperature=2.0, batch_weight=0.0)
    p, q = (
        np.exp(one.astype("float64") / 2) / np.exp(one.astype("float64") / 2).sum(-1, keepdims=True)
        for one in (teacher, student)
    )
    expected = np.square(p.T @ p - q.T @ q).sum() / classes
    np.testing.assert_allclose(loss(student, teacher), expected, rtol=2e-6)
    np.testing.assert_allclose(loss(teacher, teacher), 0.0, atol=1e-12)
