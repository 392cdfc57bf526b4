"""The record carries a step: a teacher, a loss and a metric that keras_ats does not have.

Each hangs on the record alone; nothing in the distiller knows of them.
"""

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

to_numpy = keras.ops.convert_to_numpy


@keras.saving.register_keras_serializable(package="tests")
class LogitsInBatch:
    """A teacher whose logits come with the batch: no model in memory."""

    variables = ()
    output_names = ("logits",)
    shapes = keras_ats.Shapes()
    supports_jit = True

    def prepare(self, needs):
        if needs.teacher_features:
            raise ValueError("these are logits only")

    def split(self, x):
        return (x["inputs"], x["teacher_logits"]) if isinstance(x, dict) else (x, None)

    def __call__(self, given):
        return keras_ats.Outputs(given)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@keras.saving.register_keras_serializable(package="tests")
class Hint(keras_ats.losses.DistillationLoss):
    """A loss on inner layers with a projector of its own."""

    name = "hint"

    def __init__(self, student_layer, teacher_layer):
        self.student_layer = student_layer
        self.teacher_layer = teacher_layer
        self.needs = keras_ats.Needs(
            student_features=(student_layer,), teacher_features=(teacher_layer,)
        )

    def build(self, student, teacher):
        self.projector = layers.Dense(teacher.features[self.teacher_layer][-1])
        self.projector.build(student.features[self.student_layer])

    def parts(self, lesson):
        student = self.projector(lesson.student.features[self.student_layer])
        difference = student - lesson.teacher.features[self.teacher_layer]
        values = ops.mean(ops.square(difference), axis=-1)
        return {"hint": self.reduce(values, lesson.sample_weight)}


@keras.saving.register_keras_serializable(package="tests")
class Agreement(keras.metrics.Mean):
    """How often student and teacher choose the same class."""

    def update_lesson(self, lesson):
        choices = [ops.argmax(one.logits, axis=-1) for one in (lesson.student, lesson.teacher)]
        self.update_state(ops.cast(choices[0] == choices[1], "float32"))


def network(width, name):
    return keras.Sequential(
        [
            keras.Input((models.FEATURES,)),
            layers.Dense(width, "tanh", name="hidden"),
            layers.Dense(models.CLASSES, "softmax", name="head"),
        ],
        name=name,
    )


def logits_of(model, x):
    hidden = model.get_layer("hidden")(x)
    head = model.get_layer("head")
    return to_numpy(ops.matmul(hidden, head.kernel) + head.bias)


def fitted(distiller, x, y, kd_loss=None, epochs=3, **options):
    distiller.compile(keras.optimizers.SGD(0.1, 0.9), kd_loss=kd_loss, **options)
    return distiller.fit(x, y, epochs=epochs, batch_size=8, shuffle=False, verbose=0).history


def same_start(width=4):
    keras.utils.set_random_seed(1)
    return network(width, "student")


def assert_same_weights(first, second, atol=0.0):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_a_teacher_in_the_batch_teaches_as_the_live_one(rng):
    x, y = models.features(rng, 20)
    teacher = network(8, "teacher")
    students = same_start(), same_start()
    live = fitted(keras_ats.Distiller(teacher, students[0]), x, y, AsymmetricTemperatureKD(4, 2))
    batch = {"inputs": x, "teacher_logits": logits_of(teacher, x)}
    distiller = keras_ats.Distiller(LogitsInBatch(), students[1])
    carried = fitted(distiller, batch, y, AsymmetricTemperatureKD(4, 2))
    np.testing.assert_allclose(carried["loss"], live["loss"], rtol=1e-5)
    assert_same_weights(*students, atol=1e-6)
    # Data without the teacher's part will do for the student alone.
    assert distiller.predict(x, verbose=0).shape == (20, models.CLASSES)
    assert distiller.evaluate(x, y, verbose=0, return_dict=True)["loss"] > 0


def test_a_teacher_in_the_batch_is_saved_with_the_distiller(rng, tmp_path):
    x, y = models.features(rng, 8)
    distiller = keras_ats.Distiller(LogitsInBatch(), same_start())
    batch = {"inputs": x, "teacher_logits": np.zeros((8, models.CLASSES), "float32")}
    fitted(distiller, batch, y, AsymmetricTemperatureKD(4, 2), epochs=1)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for one in (distiller, loaded):
        one.fit(batch, y, verbose=0)
    assert_same_weights(distiller.student, loaded.student, atol=1e-6)


def test_a_projector_is_trained_saved_and_resumed_and_is_not_the_students(rng, tmp_path):
    x, y = models.features(rng, 16)
    teacher, student = network(8, "teacher"), same_start()
    alone = tmp_path / "alone.keras"
    student.save(alone)
    hint = Hint("hidden", "hidden")
    distiller = keras_ats.Distiller(teacher, student)
    history = fitted(
        distiller,
        x,
        y,
        [AsymmetricTemperatureKD(4, 2), hint],
        kd_weight=[0.5, 1.0],
        student_weight=0.5,
        distillation_metrics=[Agreement(name="agreement")],
    )
    assert {"asymmetric_temperature_kd", "hint", "agreement", "kd_loss"} <= set(history)
    assert history["hint"][-1] < history["hint"][0]
    assert 0 <= history["agreement"][-1] <= 1
    kernel = hint.projector.kernel
    assert any(kernel is variable for variable in distiller.trainable_variables)
    assert not any(kernel is variable for variable in student.trainable_variables)
    before = to_numpy(kernel).copy()
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(to_numpy(loaded.kd_loss[1].projector.kernel), before)
    for one in (distiller, loaded):
        one.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    assert np.abs(to_numpy(kernel) - before).max() > 1e-4
    assert_same_weights(distiller.student, loaded.student, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(loaded.kd_loss[1].projector.kernel), to_numpy(kernel), atol=1e-6
    )
    student.save(tmp_path / "student.keras")
    assert (tmp_path / "student.keras").stat().st_size <= alone.stat().st_size + 2000
    assert keras.saving.load_model(tmp_path / "student.keras").count_params() == (
        keras.saving.load_model(alone).count_params()
    )


def test_the_loss_on_inner_layers_is_what_it_says(rng):
    x, y = models.features(rng, 8)
    teacher, student = network(8, "teacher"), same_start()
    hint = Hint("hidden", "hidden")
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=hint, kd_weight=2.0, student_weight=0.0)
    student_hidden, teacher_hidden = (
        to_numpy(model.get_layer("hidden")(x)) for model in (student, teacher)
    )
    projected = student_hidden @ to_numpy(hint.projector.kernel)
    expected = np.square(projected - teacher_hidden).mean()
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 2 * expected, rtol=1e-5)


def test_a_student_without_shapes_waits_for_them(rng):
    x, y = models.features(rng, 8)
    student = keras.Sequential(
        [layers.Dense(4, "tanh", name="hidden"), layers.Dense(models.CLASSES)]
    )
    distiller = keras_ats.Distiller(network(8, "teacher"), student)
    hint = Hint("hidden", "hidden")
    distiller.compile("sgd", kd_loss=hint)
    distiller(x)
    before = to_numpy(hint.projector.kernel).copy()
    distiller.fit(x, y, epochs=1, verbose=0)
    assert np.abs(to_numpy(hint.projector.kernel) - before).max() > 0


@pytest.mark.parametrize(
    ("teacher", "hint", "message"),
    [
        (lambda: LogitsInBatch(), Hint("hidden", "hidden"), "logits only"),
        (lambda: network(8, "t"), Hint("hiden", "hidden"), r"student .* no layer.*'hiden'.*hidden"),
        (lambda: network(8, "t"), Hint("hidden", "block"), r"teacher 't' has no layer.*'block'"),
        (lambda: models.subclassed(), Hint("hidden", "hidden"), "subclassed model.*inner layers"),
    ],
    ids=["cache", "student", "teacher", "subclassed"],
)
def test_what_cannot_be_shown_is_said_by_compile(teacher, hint, message):
    teacher = teacher()
    from_logits = True if isinstance(teacher, models.Subclassed) else None
    distiller = keras_ats.Distiller(teacher, same_start(), teacher_from_logits=from_logits)
    with pytest.raises(ValueError, match=message):
        distiller.compile(kd_loss=hint)


def test_needs_add_up_without_naming_a_layer_twice():
    first = keras_ats.Needs(student_features=("a", "b"))
    second = keras_ats.Needs(labels=True, student_features=("b", "c"), teacher_features=("d",))
    assert first | second == keras_ats.Needs(True, ("a", "b", "c"), ("d",))


@pytest.mark.parametrize("thing", [None, 3, "teacher", network])
def test_neither_a_model_nor_a_teacher(thing):
    with pytest.raises(TypeError, match=r"`teacher` must be a keras\.Model or a keras_ats"):
        keras_ats.Distiller(thing, same_start())
