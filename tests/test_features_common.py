"""What every loss on inner layers must do, alone and all together in one `fit`."""

import json
import warnings
import zipfile

import feature_cases
import keras
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from feature_cases import CASES
from gradients import compiled_value_and_gradient
from keras import ops

import keras_ats
from keras_ats.adjustments import Swap
from keras_ats.losses import AsymmetricTemperatureKD, ScaleDecoupledKD
from keras_ats.ops.feature_maps import average_pooled
from keras_ats.record import Classifier

BACKEND = keras.backend.backend()
# Sequences, so that there are positions to mask; all cases share the shape.
SHAPE, PADDED = (4, 6, 8), (4, 9, 8)
MASK = np.broadcast_to(np.arange(PADDED[1]) < SHAPE[1], PADDED[:2])

in_turn = cases_in_turn("all losses do this by the code of their base class")


def test_each_needs_the_teacher_itself():
    """No cache of logits will do for any of them."""
    for case in CASES.values():
        assert create(case).needs.teacher_features == ("layer",)


def each_case(test):
    return in_turn(pytest.mark.parametrize("case", CASES.values(), ids=CASES)(test))


def to_numpy(values):
    return ops.convert_to_numpy(values)


def create(case, **options):
    keras.utils.set_random_seed(1)
    loss = case.create("layer", "layer", **options)
    shapes = keras_ats.Shapes(features={"layer": (None, *SHAPE[1:])})
    loss.build(shapes, shapes)
    return loss


def batch(rng, shape=SHAPE):
    return rng.normal(size=(2, *shape)).astype("float32")


def options_of(case, count=SHAPE[0]):
    return {"ids": np.arange(count)[::-1].copy()} if case.has_ids else {}


def value_of(loss, *arguments, **options):
    """The value, without what the loss would keep of the batch."""
    with keras.StatelessScope():
        return to_numpy(loss(*arguments, **options))


def differentiated(loss, **options):
    """Value and gradient in the student's layer, of the same shapes without compiling again."""

    def of_batch(student, teacher):
        with keras.StatelessScope():
            return loss(student, teacher, **options)

    if BACKEND == "jax":
        import jax

        return jax.jit(jax.value_and_grad(of_batch))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def with_tape(student, teacher):
            student = tf.convert_to_tensor(student)
            with tf.GradientTape() as tape:
                tape.watch(student)
                value = of_batch(student, teacher)
            return value, tape.gradient(value, student)

        return with_tape

    import torch

    def with_autograd(student, teacher):
        student = torch.tensor(student, requires_grad=True)
        value = of_batch(student, teacher)
        return value.detach(), torch.autograd.grad(value, student)[0]

    return with_autograd


@each_case
def test_values_are_float32_weighed_and_averaged_as_keras_does(case, rng):
    student, teacher = batch(rng)
    options = options_of(case)
    loss = create(case)
    value = value_of(loss, student, teacher, **options)
    assert value.dtype == "float32"
    assert value.shape == ()
    half = value_of(loss, student.astype("float16"), teacher.astype("float16"), **options)
    assert half.dtype == "float32"
    np.testing.assert_allclose(half, value, rtol=0.02, atol=1e-3)
    values = value_of(create(case, reduction="none"), student, teacher, **options)
    assert values.shape[0] == SHAPE[0]
    np.testing.assert_allclose(values.mean(), value, rtol=1e-4, atol=1e-6)
    weights = rng.uniform(0, 2, SHAPE[0]).astype("float32")
    weighed = value_of(loss, student, teacher, sample_weight=weights, **options)
    by_sample = values.reshape(len(values), -1).mean(axis=1)
    np.testing.assert_allclose(weighed, (weights * by_sample).mean(), rtol=1e-4, atol=1e-6)
    # Weights of other positions weigh a sample by their mean.
    of_pixels = np.broadcast_to(weights[:, None, None], (4, 5, 7))
    weighed_again = value_of(loss, student, teacher, sample_weight=of_pixels, **options)
    np.testing.assert_allclose(weighed_again, weighed, rtol=1e-5, atol=1e-7)


@each_case
def test_samples_by_themselves(case, rng):
    """A loss that says that it does not compare samples does not."""
    student, teacher = batch(rng)
    if case.compares_samples:
        assert "batch" in type(create(case)).__doc__
        return
    loss = create(case, reduction="none")
    together = value_of(loss, student, teacher)
    alone = value_of(loss, student[:2], teacher[:2])
    np.testing.assert_allclose(alone, together[:2], rtol=1e-5, atol=1e-6)


@each_case
def test_padding_and_degenerate_layers(case, rng):
    """What is masked has no say, NaN included; no layer makes a gradient that is not finite."""
    options = options_of(case)
    student, teacher = batch(rng, PADDED)
    loss = create(case)
    run = differentiated(loss, mask=MASK, **options)
    filled = [np.where(MASK[..., None], side, np.nan) for side in (student, teacher)]
    value, gradient = run(*filled)
    value, gradient = to_numpy(value), to_numpy(gradient)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (gradient[:, SHAPE[1] :] == 0).all()
    other, _ = run(student, teacher)
    np.testing.assert_allclose(to_numpy(other), value, rtol=1e-5, atol=1e-6)
    if not case.sees_padding:
        cut = value_of(loss, student[:, : SHAPE[1]], teacher[:, : SHAPE[1]], **options)
        np.testing.assert_allclose(cut, value, rtol=1e-4, atol=1e-5)
    zeros = np.zeros(PADDED, "float32")
    for sides in ((zeros, teacher), (student, zeros), (zeros, zeros), (student, student)):
        value, gradient = run(*sides)
        assert np.isfinite(to_numpy(value))
        assert np.isfinite(to_numpy(gradient)).all()


@each_case
def test_a_batch_of_one(case, rng):
    student, teacher = batch(rng, (1, *SHAPE[1:]))
    value, gradient = differentiated(create(case), **options_of(case, 1))(student, teacher)
    assert np.isfinite(to_numpy(value))
    assert np.isfinite(to_numpy(gradient)).all()


@each_case
def test_config(case):
    loss = create(case, name="other")
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again.get_config() == loss.get_config()
    assert again.name == "other"


def all_together(student, **options):
    """A distiller with every loss on inner layers, beside ATS with corrected teacher and SDD."""
    losses = [
        AsymmetricTemperatureKD(4, 2, adjustment=Swap()),
        ScaleDecoupledKD("stage2", "stage2", AsymmetricTemperatureKD(4, 2), scales=(1, 2)),
        *feature_cases.all_losses(),
    ]
    distiller = keras_ats.Distiller(feature_cases.network(4, "teacher"), student)
    distiller.compile(
        keras.optimizers.Adam(0.003),
        kd_loss=losses,
        kd_weight=[5.0, 5.0, *(case.weight for case in CASES.values())],
        student_weight=1.0,
        jit_compile=BACKEND == "jax",
        **options,
    )
    return distiller


def state_of(distiller):
    losses = [variable for loss in distiller.kd_loss for variable in loss.variables]
    return [to_numpy(one) for one in (*distiller.student.variables, *losses)]


def test_all_train_together_and_resume(rng, tmp_path):
    """One `fit` for all: each falls, is saved, and goes on as if nothing had been."""
    x, y = feature_cases.data(rng)
    student = feature_cases.network(2, "student")
    student.save(tmp_path / "plain.keras")
    distiller = all_together(student, evaluate_teacher=True)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    history = distiller.fit(x, y, epochs=8, **options).history
    for loss in distiller.kd_loss:
        assert np.isfinite(history[loss.name]).all(), loss.name
    # The labels are drawn at random, and ATS leans on them; the last loss has kept nothing yet.
    for loss in distiller.kd_loss[1:-1]:
        assert history[loss.name][-1] < history[loss.name][0], loss.name
    means = [
        to_numpy(variable)
        for loss in distiller.kd_loss
        for variable in loss.variables
        if variable.name == "moving_mean"
    ]
    assert len(means) == 9
    assert all(np.any(mean) for mean in means)
    # An evaluation learns nothing, statistics and banks included. TensorFlow would take longer to
    # compile what follows than to run it, and by itself does the same.
    distiller.run_eagerly = BACKEND == "tensorflow"
    before = state_of(distiller)
    distiller.evaluate(x["x"], y, verbose=0)
    for one, other in zip(before, state_of(distiller), strict=True):
        np.testing.assert_array_equal(one, other)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for one, other in zip(before, state_of(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded.run_eagerly = distiller.run_eagerly
    if distiller.run_eagerly:
        distiller.train_function = None  # Adam makes much of how a compiled step rounds.
    half = {name: one[:8] for name, one in x.items()}
    for one in (distiller, loaded):
        one.fit(half, y[:8], **options)
    for one, other in zip(state_of(distiller), state_of(loaded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    # What is deployed is the plain student.
    student.save(tmp_path / "student.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("student", "plain")]
    assert abs(sizes[0] - sizes[1]) < 2000
    with zipfile.ZipFile(tmp_path / "student.keras") as file:
        assert b"keras_ats" not in file.read("config.json")


def lesson_of_regions(student, teacher, **options):
    outputs = [keras_ats.Outputs(None, features={"layer": one}) for one in (student, teacher)]
    return keras_ats.Lesson(*outputs, np.arange(len(student)) % 3, **options)


def test_regions_are_weighed_by_sample_and_finite(rng):
    """What the others must do, of the loss on logits of regions."""
    heads = [keras.layers.Dense(3) for _ in range(2)]
    shapes = [
        keras_ats.Shapes(features={"layer": (None, 4, 4, 8)}, classifier=Classifier(head, "layer"))
        for head in heads
    ]
    for head in heads:
        head.build((None, 8))
    loss = ScaleDecoupledKD("layer", "layer", scales=(1, 2))
    loss.build(*shapes)
    student, teacher = rng.normal(size=(2, 4, 4, 4, 8)).astype("float32")
    weights = np.array([0.5, 2.0, 0.0, 1.0], "float32")

    def value(student, teacher, **options):
        return to_numpy(loss.parts(lesson_of_regions(student, teacher, **options))[loss.name])

    alone = [value(student, teacher, sample_weight=4.0 * np.eye(4)[i]) for i in range(4)]
    weighed = value(student, teacher, sample_weight=weights)
    np.testing.assert_allclose(weighed, np.mean(weights * alone), rtol=1e-5)
    half = value(student.astype("float16"), teacher.astype("float16"))
    assert half.dtype == "float32"
    np.testing.assert_allclose(half, np.mean(alone), rtol=0.02)
    zeros = np.zeros_like(student)
    for sides in ((zeros, teacher), (student, zeros), (zeros, zeros), (student, student)):
        both, gradient = compiled_value_and_gradient(
            lambda one, other=sides[1]: loss.parts(lesson_of_regions(one, other))[loss.name],
            sides[0],
        )
        assert np.isfinite(both)
        assert np.isfinite(gradient).all()
    assert value(student[:1], teacher[:1]).shape == ()


@on_one_backend("the golden tests have its steps on each")
def test_contrast_is_learned(rng):
    x, y = feature_cases.data(rng)
    distiller = keras_ats.Distiller(feature_cases.network(4), feature_cases.network(2))
    distiller.compile(
        keras.optimizers.Adam(0.01), loss=None, kd_loss=feature_cases.crd("pool", "pool")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The student's head has nothing to learn.
        history = distiller.fit(x, y, epochs=40, verbose=0).history
    assert np.mean(history["kd_loss"][-5:]) < np.mean(history["kd_loss"][5:10])


def test_all_in_half_precision(rng):
    x, y = feature_cases.data(rng)
    student = feature_cases.network(2, "student", dtype="mixed_bfloat16")
    # Seconds instead of minutes, where it need not be compiled.
    distiller = all_together(student, run_eagerly=BACKEND != "jax")
    half = {name: one[:8] for name, one in x.items()}
    logs = distiller.train_on_batch(half, y[:8], return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for loss in distiller.kd_loss:
        for variable in loss.variables:
            assert variable.dtype != "bfloat16"


def test_reused_classifier_is_exported(rng, tmp_path):
    x, y = feature_cases.data(rng)
    loss = keras_ats.features.ReusedClassifier("stage2", "stage2")
    teacher, student = feature_cases.network(4, "teacher"), feature_cases.network(2, "student")
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=loss, kd_weight=1.0, student_weight=0.0)
    distiller.train_on_batch(x["x"], y)
    model = loss.export_student(distiller)
    hidden = x["x"]
    for layer in student.layers[:4]:
        hidden = layer(hidden)
    projected = to_numpy(ops.mean(loss.projectors[0](hidden, training=False), axis=(1, 2)))
    kernel, bias = teacher.get_layer("head").get_weights()
    np.testing.assert_allclose(
        to_numpy(model(x["x"])), projected @ kernel + bias, rtol=1e-4, atol=1e-5
    )
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert b"keras_ats" not in file.read("config.json")
    with pytest.raises(ValueError, match="compiled with this loss"):
        keras_ats.features.ReusedClassifier("a", "b").export_student(distiller)


@on_one_backend("Keras's layers, in the same order")
@pytest.mark.parametrize("strides", [(1, 1), (1, 2)])
def test_sizes_that_do_not_divide_are_exported(strides, rng):
    """A student's map of 4 x 3 or 4 x 2 positions, a teacher's of 3 x 2; and a softmax ending."""

    def network(kernel, **options):
        return keras.Sequential(
            [
                keras.Input((4, 3, 2)),
                keras.layers.Conv2D(4, kernel, name="map", **options),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3, "softmax"),
            ]
        )

    teacher, student = network((2, 2)), network(1, strides=strides)
    loss = keras_ats.features.ReusedClassifier("map", "map")
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=loss, kd_weight=1.0, student_weight=0.0)
    x = rng.normal(size=(5, 4, 3, 2)).astype("float32")
    distiller.train_on_batch(x, np.zeros(5, int))
    projected = average_pooled(student.layers[0](x), (3, 2))
    projected = loss.projectors[0](projected, training=False)
    expected = teacher.layers[-1](ops.mean(projected, axis=(1, 2)))
    model = loss.export_student(distiller)
    np.testing.assert_allclose(to_numpy(model(x)), to_numpy(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (keras_ats.features.ReusedClassifier, r"teacher that ends in a Dense layer"),
        (keras_ats.features.ClassAttention, r"teacher that ends in a Dense layer"),
        (ScaleDecoupledKD, r"teacher that ends in a Dense layer"),
    ],
)
def test_a_teacher_whose_head_is_no_dense_layer(create, message):
    teacher = keras.Sequential(
        [
            *feature_cases.network(4).layers[:4],
            keras.layers.Conv2D(3, 1),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    teacher.build((None, 8, 8, 3))
    distiller = keras_ats.Distiller(teacher, feature_cases.network(2))
    with pytest.raises(ValueError, match=message):
        distiller.compile(kd_loss=create("stage2", "stage2"))
    distiller = keras_ats.Distiller(feature_cases.network(4), feature_cases.network(2))
    with pytest.raises(ValueError, match=r"teacher.*'stage1'.*'stage2'"):
        distiller.compile(kd_loss=create("stage2", "stage1"))


def test_samples_without_ids(rng):
    x, y = feature_cases.data(rng)
    distiller = keras_ats.Distiller(feature_cases.network(4), feature_cases.network(2))
    distiller.compile(kd_loss=feature_cases.crd("pool", "pool"), jit_compile=BACKEND == "jax")
    with pytest.raises(ValueError, match=r"told which samples.*without 'ids'"):
        distiller.fit(x["x"], y, verbose=0)


def test_ids_out_of_range_make_the_loss_nan(rng):
    loss = create(CASES["contrastive_representation"])
    student, teacher = batch(rng, (2, *SHAPE[1:]))
    assert np.isnan(value_of(loss, student, teacher, ids=np.array([0, feature_cases.SAMPLES])))


def test_margins_are_the_teachers(rng):
    teacher, student = feature_cases.network(4), feature_cases.network(2)
    before = teacher.get_layer("before")
    before.set_weights([np.ones(4), np.array([0.0, -1.0, 5.0, 1.0]), np.zeros(4), np.ones(4)])
    distiller = keras_ats.Distiller(teacher, student)
    loss = keras_ats.features.FeatureOverhaul("before", "before")
    distiller.compile(kd_loss=loss, kd_weight=0.5)
    draws = rng.normal(size=1_000_000)
    expected = [(draws + b)[draws + b < 0].mean() for b in (0.0, -1.0)]
    np.testing.assert_allclose(to_numpy(loss.margins[0])[:2], expected, rtol=0.01)
    assert to_numpy(loss.margins[0])[2] == -3.0
    with pytest.raises(ValueError, match=r"BatchNormalization.*'stage2'.*normalizations="):
        distiller.compile(kd_loss=keras_ats.features.FeatureOverhaul("stage2", "stage2"))
    loss = keras_ats.features.FeatureOverhaul("stage2", "stage1", normalizations="before")
    distiller.compile(kd_loss=loss)


def test_ids_come_under_one_key():
    """Two losses that want the samples' ids under different keys cannot be served together."""
    one, other = (feature_cases.crd("pool", "pool", ids=name) for name in ("ids", "numbers"))
    distiller = keras_ats.Distiller(feature_cases.network(4), feature_cases.network(2))
    with pytest.raises(ValueError, match="different keys"):
        distiller.compile(kd_loss=[one, other])
