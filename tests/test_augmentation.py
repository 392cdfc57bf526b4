"""Both models are shown the same augmented inputs, in training steps and nowhere else."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers, ops

import keras_ats
from keras_ats import losses

pytestmark = cases_in_turn("each kind is called by the same code, before either model")

NAMES = ("image", "table")


@keras.saving.register_keras_serializable(package="keras_ats_tests")
def tripled(x):
    return 3.0 * x


def noise(seed=1):
    return layers.GaussianNoise(1.0, seed=seed)


def one(names="x"):
    """A Dense layer over one input, or over the sum of named ones."""
    if names == "x":
        return models.linear(softmax=True)
    inputs = {name: keras.Input((models.FEATURES,), name=name) for name in names}
    total = layers.Add()(list(inputs.values())) if len(names) > 1 else inputs[names[0]]
    return keras.Model(inputs, layers.Dense(models.CLASSES, "softmax")(total))


class Largest(keras.metrics.Metric):
    """The largest of what a function makes of the lessons of an epoch."""

    def __init__(self, name, function):
        super().__init__(name=name)
        self.function = function
        self.largest = self.add_variable((), "zeros", name="largest")

    def update_lesson(self, lesson):
        value = ops.cast(self.function(lesson), "float32")
        self.largest.assign(ops.maximum(self.largest, value))

    def update_state(self, *args, **kwargs):
        raise AssertionError

    def result(self):
        return ops.convert_to_tensor(self.largest)

    def reset_state(self):
        self.largest.assign(0.0)


def apart(role, model, seen):
    """How far the logits of a model are from those of the inputs that it should have seen."""

    def of_lesson(lesson):
        kernel, bias = model.layers[-1].kernel, model.layers[-1].bias
        logits = ops.matmul(seen(lesson.inputs), ops.stop_gradient(kernel)) + bias
        return ops.max(ops.abs(getattr(lesson, role).logits - logits))

    return Largest(f"{role}_apart", of_lesson)


def data(rng, kind):
    x, y = models.features(rng)
    return (x if kind == "x" else {name: x * (i + 1) for i, name in enumerate(NAMES)}), y


KINDS = {
    # What models take, what is augmented, `teacher_inputs`, what each model is to see.
    "layer": ("x", "x", noise, None, lambda x: x, lambda x: x),
    "function": ("x", "x", lambda: tripled, None, lambda x: x, lambda x: x),
    "teacher_function": ("x", "x", noise, tripled, lambda x: 3.0 * x, lambda x: x),
    "named": (
        NAMES,
        ("image",),
        lambda: {"image": noise()},
        None,
        lambda x: x["image"] + x["table"],
        lambda x: x["image"],
    ),
    "teacher_key": (
        "x",
        "x",
        lambda: {"image": noise(1), "table": noise(2)},
        "table",
        lambda x: x["table"],
        lambda x: x["image"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_models_are_shown_the_same(kind, rng):
    of_teacher, of_student, augmentation, teacher_inputs, seen_by_teacher, seen = KINDS[kind]
    x, y = data(rng, "named" if isinstance(of_teacher, tuple) or kind == "teacher_key" else "x")
    teacher, student = one(of_teacher), one(of_student)
    distiller = keras_ats.Distiller(
        teacher, student, teacher_inputs=teacher_inputs, augmentation=augmentation()
    )
    whole = keras.tree.flatten(x)[0]
    distiller.compile(
        "sgd",
        kd_loss=losses.AsymmetricTemperatureKD(4, 2),
        distillation_metrics=[
            apart("teacher", teacher, seen_by_teacher),
            apart("student", student, seen),
            Largest(
                "changed", lambda lesson: ops.max(ops.abs(keras.tree.flatten(lesson.inputs)[0]))
            ),
        ],
        evaluate_teacher=True,
    )
    before = distiller.evaluate(x, y, verbose=0, return_dict=True)
    logs = distiller.fit(x, y, batch_size=8, epochs=2, verbose=0).history
    assert max(logs["teacher_apart"] + logs["student_apart"]) < 1e-5
    # Another picture in each step, and none at inference.
    assert min(logs["changed"]) > np.abs(whole).max() + 1e-3
    assert (logs["changed"][0] == logs["changed"][1]) is (kind == "function")
    assert before["changed"] == pytest.approx(np.abs(whole).max())
    assert max(before["teacher_apart"], before["student_apart"]) < 1e-5
    again = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert again == distiller.evaluate(x, y, verbose=0, return_dict=True)
    given = x["image"] if kind == "teacher_key" else x
    shown = {"image": x["image"]} if kind == "named" else given
    predictions = student.predict(shown, verbose=0)
    np.testing.assert_allclose(distiller.predict(given, verbose=0), predictions, atol=1e-6)


def compiled(augmentation, seed=3, **options):
    keras.utils.set_random_seed(seed)
    distiller = keras_ats.Distiller(
        models.linear(softmax=True), models.linear(softmax=True), augmentation=augmentation
    )
    distiller.compile("adam", kd_loss=losses.AsymmetricTemperatureKD(4, 2), **options)
    return distiller


@pytest.mark.parametrize("form", ["keras", "weights"])
def test_a_resumed_run_draws_the_numbers_that_it_would_have_drawn(form, rng, tmp_path):
    x, y = models.features(rng)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}

    def augmentation(seed=1):
        return layers.Pipeline([noise(seed), layers.GaussianDropout(0.1, seed=seed)])

    whole = compiled(augmentation())
    logs = whole.fit(x, y, epochs=4, **fit).history["loss"]
    half = compiled(augmentation())
    half.fit(x, y, epochs=2, **fit)
    if form == "keras":
        half.save(tmp_path / "a.keras")
        resumed = keras.saving.load_model(tmp_path / "a.keras")
        assert isinstance(resumed.augmentation, layers.Pipeline)
    else:
        half.save_weights(tmp_path / "a.weights.h5")
        resumed = compiled(augmentation(seed=77), seed=4)
        resumed.teacher.set_weights(half.teacher.get_weights())
        resumed.optimizer.build(resumed.trainable_variables)
        resumed.load_weights(tmp_path / "a.weights.h5")
    later = resumed.fit(x, y, epochs=4, initial_epoch=2, **fit).history["loss"]
    assert later == pytest.approx(logs[2:], rel=1e-6)
    assert logs[2:] != pytest.approx(logs[:2], rel=1e-6)


def test_a_run_may_be_given_an_augmentation_when_it_goes_on(rng, tmp_path):
    x, y = models.features(rng)
    plain = compiled(None)
    plain.fit(x, y, verbose=0)
    plain.save_weights(tmp_path / "a.weights.h5")
    augmented = compiled({"x": noise()}, seed=4)
    augmented.optimizer.build(augmented.trainable_variables)
    augmented.load_weights(tmp_path / "a.weights.h5")
    for one, other in zip(plain.student.weights, augmented.student.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))


def test_named_layers_come_back_from_a_file(rng, tmp_path):
    distiller = keras_ats.Distiller(
        one(NAMES), one(NAMES), augmentation={"image": noise(), "table": tripled}
    )
    distiller.compile("sgd", kd_loss=losses.TemperatureKD())
    distiller.fit(*data(rng, "named"), verbose=0)
    distiller.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert loaded.augmentation["table"] is tripled
    assert loaded.augmentation["image"].stddev == 1.0
    assert list(loaded._seeds) == ["augmentation_seed_0"]
    ones, others = (
        ops.convert_to_numpy(m._seeds["augmentation_seed_0"]) for m in (distiller, loaded)
    )
    np.testing.assert_array_equal(ones, others)


def test_layers_with_statistics_are_built_and_kept_up_to_date(rng):
    x, y = models.features(rng, 32)
    normalization = layers.BatchNormalization(center=False, scale=False, momentum=0.5)
    distiller = compiled(normalization)
    distiller.fit(x + 3, y, epochs=8, batch_size=16, verbose=0)
    mean = ops.convert_to_numpy(normalization.moving_mean)
    np.testing.assert_allclose(mean, (x + 3).mean(0), atol=0.5)
    assert len(distiller.trainable_variables) == 2


HIDDEN = noise()
REFUSED = {
    "hidden_layer": (lambda x: HIDDEN(x, training=True), r"does not know.*Pass the layer itself"),
    "nothing": (lambda x: None, r"as many samples.*Received: None for inputs .*of shape \("),
    "other_samples": (lambda x: x[:3], r"as many samples.*of shape \(3, 5\)"),
    "other_inputs": ({"image": noise()}, r"does not have: \['image'\].*inputs without names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(case, rng):
    augmentation, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        compiled(augmentation, run_eagerly=True).fit(*models.features(rng), verbose=0)


def test_weights_that_nobody_would_have_afterwards_are_refused(rng):
    with pytest.raises(ValueError, match=r"would be trained.*kernel.*trainable = False"):
        compiled(models.linear())
    with pytest.raises(ValueError, match=r"would be trained.*kernel.*trainable = False"):
        compiled(layers.Dense(models.FEATURES)).fit(*models.features(rng), verbose=0)
    frozen = layers.Dense(models.FEATURES, trainable=False)
    assert np.isfinite(compiled(frozen).fit(*models.features(rng), verbose=0).history["loss"]).all()


def test_a_class_is_no_layer():
    with pytest.raises(TypeError, match=r"`augmentation`.*Call it: RandomFlip\(\.\.\.\)"):
        compiled(layers.RandomFlip)


@pytest.mark.parametrize(
    "name",
    [
        "teacher", "student", "augmentation", "teacher_inputs", "teacher_from_logits",
        "student_from_logits",
    ],
)  # fmt: skip
def test_what_a_distiller_was_made_with_stays(name):
    with pytest.raises(AttributeError, match=rf"The {name} of a distiller cannot be exchanged"):
        setattr(compiled(None), name, None)


def test_a_teacher_that_only_remembers_cannot_be_shown_anything():
    class Remembers(keras_ats.teachers.Teacher):
        variables = ()
        output_names = ("o",)
        shapes = keras_ats.Shapes()
        supports_jit = True

    with pytest.raises(ValueError, match=r"teacher that is run.*Remembers.*augment the data"):
        keras_ats.Distiller(Remembers(), models.linear(), augmentation=noise())
    keras_ats.Distiller(Remembers(), models.linear())
    ensemble = keras_ats.teachers.Ensemble([models.linear(), models.linear()])
    keras_ats.Distiller(ensemble, models.linear(), augmentation=noise())
