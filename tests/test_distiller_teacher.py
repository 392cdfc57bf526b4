"""Distiller, points 3 and 4: the teacher is left as it was, and runs no more than it must."""

import contextlib

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

from keras_ats import Distiller
from keras_ats._keras import BatchAndLent
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD

BACKEND = keras.backend.backend()
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="about JAX's compiled step")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="about torch modules")


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def compiled(teacher, student, kd_loss=None, **arguments):
    distiller = Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.1), kd_loss=kd_loss or AsymmetricTemperatureKD(4, 2), **arguments
    )
    return distiller


# --- Point 3: bit for bit what it was.


def nested(name=None):
    """Models within models, half of them frozen, one behind a softmax."""
    body = models.stochastic(name="body")
    body.layers[0].trainable = False
    inputs = keras.Input((models.FEATURES,))
    outputs = layers.Dense(models.CLASSES, "softmax")(body(inputs))
    model = keras.Model(inputs, outputs, name=name)
    model.layers[-1].trainable = False
    return model


def all_of(model):
    """A model's layers, at any depth."""
    found = [model]
    for layer in getattr(model, "layers", []):
        found += all_of(layer)
    return found


def state_of(teacher):
    """Everything about a teacher that training might change."""
    flags = {
        "trainable": [layer.trainable for layer in all_of(teacher)],
        "trainable variables": [variable.path for variable in teacher.trainable_variables],
        "variable flags": [variable.trainable for variable in teacher.variables],
        "compiled": teacher.compiled,
        "losses": len(teacher.losses),
    }
    if BACKEND == "torch":
        flags["requires_grad"] = [variable.value.requires_grad for variable in teacher.variables]
        flags["modes"] = [module.training for module in teacher.modules()]
    return models.numpy_weights(teacher), flags


@cases_in_turn("teachers of every make are kept apart by the same code")
@pytest.mark.parametrize(
    "build",
    [models.stochastic, models.restless, nested, models.subclassed],
    ids=lambda f: f.__name__,
)
def test_teacher_is_bit_for_bit_what_it_was(rng, build):
    teacher, student = build(), models.stochastic()
    x, y = models.features(rng)
    weights, flags = state_of(teacher)
    before = models.numpy_weights(student)
    distiller = Distiller(teacher, student, teacher_from_logits=build is not nested or None)
    distiller.compile("adam", kd_loss=AsymmetricTemperatureKD(4, 2), evaluate_teacher=True)
    distiller.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), verbose=0)
    distiller.train_on_batch(x[:8], y[:8])
    distiller.evaluate(x, y, batch_size=8, verbose=0)
    distiller.predict(x, batch_size=8, verbose=0)
    assert any(
        not np.array_equal(*pair)
        for pair in zip(before, models.numpy_weights(student), strict=True)
    )
    after, flags_after = state_of(teacher)
    assert flags_after == flags
    for actual, expected in zip(after, weights, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_frozen_teacher_stays_frozen_and_a_frozen_layer_of_the_student_too(rng):
    teacher, student = models.sequential(16), models.sequential()
    teacher.trainable = False
    student.layers[0].trainable = False
    x, y = models.features(rng)
    frozen, free = student.layers[0].get_weights(), student.layers[1].get_weights()
    distiller = compiled(teacher, student)
    distiller.fit(x, y, verbose=0)
    assert [layer.trainable for layer in all_of(teacher)] == [False] * 3
    assert [layer.trainable for layer in all_of(student)] == [True, False, True]
    np.testing.assert_array_equal(student.layers[0].get_weights()[0], frozen[0])
    assert np.abs(student.layers[1].get_weights()[0] - free[0]).max() > 0


def test_teacher_is_run_at_inference(rng):
    teacher, student = models.stochastic(), models.linear()
    x, y = models.features(rng)
    expected = models.ats(models.one_hot(y), models.outputs(student, x), models.outputs(teacher, x))
    logs = compiled(teacher, student).train_on_batch(x, y, return_dict=True)
    close(logs["kd_loss"], expected.mean())


def test_no_variable_of_the_teacher_is_trained_or_listed(rng):
    teacher, student = models.stochastic(), models.stochastic()
    x, y = models.features(rng)
    distiller = compiled(teacher, student)
    distiller.fit(x, y, verbose=0)
    teachers = {id(variable) for variable in teacher.variables}
    for listed in ("trainable_variables", "trainable_weights", "variables", "weights"):
        assert not teachers & {id(variable) for variable in getattr(distiller, listed)}
    assert [v.path for v in distiller.trainable_variables] == [
        v.path for v in student.trainable_variables
    ]
    plain = keras.optimizers.SGD(0.1)
    plain.build(student.trainable_variables)
    assert len(distiller.optimizer.variables) == len(plain.variables)
    # Two weights and three temperatures.
    assert distiller.count_params() == student.count_params() + 5


class Probe(layers.Layer):
    """Counts the runs of a model's forward and backward pass, also within compiled steps."""

    def __init__(self):
        super().__init__()
        self.runs = 0
        self.slopes = 0
        self.recorded = False

    def call(self, inputs):
        @keras.ops.custom_gradient
        def probe(x):
            def gradient(*args, upstream=None):
                # Counted when the backward pass is built, which is what must not happen.
                self.slopes += 1
                return args[0] if upstream is None else upstream

            return x, gradient

        if BACKEND == "jax":
            import jax

            jax.debug.callback(self._run)
        elif BACKEND == "tensorflow":
            import tensorflow as tf

            tf.py_function(self._run, [], [])
        elif inputs.device.type != "meta":
            import torch

            self._run()
            self.recorded |= torch.is_grad_enabled()
        return probe(inputs)

    def _run(self):
        self.runs += 1

    def reset(self):
        self.runs = self.slopes = 0
        self.recorded = False

    def compute_output_shape(self, input_shape):
        return input_shape


def probed(softmax=False, subclassed=False):
    """A model with a probe in its middle, and the probe."""
    probe = Probe()
    stack = [
        layers.Dense(4),
        probe,
        layers.Dense(models.CLASSES, "softmax" if softmax else None),
    ]
    if not subclassed:
        return keras.Sequential([keras.Input((models.FEATURES,)), *stack]), probe

    class Stack(keras.Model):
        def __init__(self):
            super().__init__()
            self.stack = stack

        def call(self, inputs):
            for layer in self.stack:
                inputs = layer(inputs)
            return inputs

    model = Stack()
    model(np.zeros((1, models.FEATURES), "float32"))
    return model, probe


def test_no_gradient_is_built_through_the_teacher(rng):
    (teacher, of_teacher), (student, of_student) = probed(), probed()
    x, y = models.features(rng)
    distiller = compiled(teacher, student, jit_compile=BACKEND == "jax")
    distiller.fit(x, y, verbose=0)
    assert of_student.slopes >= 1
    assert of_teacher.slopes == 0
    assert not of_teacher.recorded
    if BACKEND == "torch":
        assert of_student.recorded
        assert all(variable.value.grad is None for variable in teacher.variables)


def test_the_objective_has_no_slope_in_the_teacher(rng):
    teacher, student = models.sequential(16), models.sequential()
    x, y = models.features(rng)
    distiller = compiled(teacher, student)
    distiller.train_on_batch(x, y)
    assert all(not np.any(slope) for slope in slopes(distiller, x, y, teacher))
    assert all(np.any(slope) for slope in slopes(distiller, x, y, student))


def slopes(distiller, x, y, model):
    """Gradient of the objective in each trainable variable of `model`."""
    x = keras.ops.convert_to_tensor(x)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = distiller.compute_loss(x, y, distiller(x, training=True))
        variables = [variable.value for variable in model.trainable_variables]
        gradients = tape.gradient(loss, variables)
        return [0.0 if slope is None else slope.numpy() for slope in gradients]
    if BACKEND == "torch":
        for variable in model.variables:
            variable.value.grad = None
        distiller.compute_loss(x, y, distiller(x, training=True)).backward()
        gradients = [variable.value.grad for variable in model.trainable_variables]
        return [0.0 if slope is None else slope.numpy() for slope in gradients]
    import jax

    def objective(values):
        state = list(zip(model.trainable_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=state):
            return distiller.compute_loss(x, y, distiller(x, training=True))

    return jax.jit(jax.grad(objective))([variable.value for variable in model.trainable_variables])


class Penalised(layers.Layer):
    def call(self, inputs):
        self.add_loss(100.0 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def test_losses_within_the_teacher_do_not_count(rng):
    inputs = keras.Input((models.FEATURES,))
    hidden = layers.Dense(8, kernel_regularizer="l2", activity_regularizer="l2")(inputs)
    outputs = layers.Dense(models.CLASSES, "softmax", activity_regularizer="l2")(
        Penalised()(hidden)
    )
    teacher, student = keras.Model(inputs, outputs), models.linear()
    x, y = models.features(rng)
    own = len(teacher.losses)
    rows, logits = models.one_hot(y), models.outputs(student, x)
    kernel, bias = teacher.layers[-1].get_weights()
    teacher_logits = models.outputs(keras.Model(inputs, hidden), x) @ kernel + bias
    expected = (
        models.cross_entropy(rows, logits).mean(),
        models.ats(rows, logits, teacher_logits).mean(),
    )
    distiller = compiled(teacher, student, evaluate_teacher=True)
    evaluated = distiller.test_on_batch(x, y, return_dict=True)
    trained = distiller.train_on_batch(x, y, return_dict=True)
    for logs in (evaluated, trained):
        close((logs["student_loss"], logs["kd_loss"]), expected)
        close(logs["loss"], np.mean(expected))
    assert distiller.losses == []
    assert own <= len(teacher.losses) <= own + 3  # Those of its last call on its own.


def test_teacher_stays_an_ordinary_compiled_model(rng):
    teacher, student = models.stochastic(softmax=True), models.linear()
    x, y = models.features(rng)
    teacher.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    teacher.fit(x, y, verbose=0)
    optimizer = teacher.optimizer
    slots = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]
    before = teacher.evaluate(x, y, return_dict=True, verbose=0)
    predictions = teacher.predict(x, verbose=0)
    used_within_training = []

    class UsesTeacher(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            used_within_training.append(teacher.predict(x, verbose=0))

    distiller = compiled(teacher, student)
    history = distiller.fit(x, y, epochs=2, callbacks=[UsesTeacher()], verbose=0).history
    assert set(history) == {"loss", "student_loss", "kd_loss"}
    assert teacher.optimizer is optimizer
    for actual, expected in zip(optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(actual), expected)
    for actual in (*used_within_training, teacher.predict(x, verbose=0)):
        np.testing.assert_array_equal(actual, predictions)
    assert teacher.evaluate(x, y, return_dict=True, verbose=0) == before
    teacher.fit(x, y, verbose=0)
    assert int(optimizer.iterations.numpy()) == 2
    assert np.abs(teacher.predict(x, verbose=0) - predictions).max() > 0


def test_a_teacher_that_is_changed_teaches_what_it_now_knows(rng):
    # Not obeyed if a compiled step had the teacher's weights as constants.
    teacher, student = models.sequential(16), models.linear()
    x, y = models.features(rng)
    rows, logits = models.one_hot(y), models.outputs(student, x)
    distiller = Distiller(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.0), kd_loss=AsymmetricTemperatureKD(4, 2))
    for factor in (1, 3, 0):
        teacher.set_weights([factor * weight for weight in teacher.get_weights()])
        distiller.reset_metrics()  # `train_on_batch` does so only since Keras 3.15.
        logs = distiller.train_on_batch(x, y, return_dict=True)
        close(logs["kd_loss"], models.ats(rows, logits, models.outputs(teacher, x)).mean())


def test_one_teacher_for_several_students(rng):
    teacher = models.stochastic()
    x, y = models.features(rng)
    distillers = [compiled(teacher, models.linear()) for _ in range(2)]
    weights = models.numpy_weights(teacher)
    for _ in range(2):
        for distiller in distillers:
            distiller.fit(x, y, verbose=0)
    for actual, expected in zip(models.numpy_weights(teacher), weights, strict=True):
        np.testing.assert_array_equal(actual, expected)


@only_jax
def test_teacher_is_an_argument_of_the_compiled_step(rng):
    import jax

    width = 4096
    teacher, student = models.sequential(width), models.linear()
    x, y = models.features(rng)
    distiller = compiled(teacher, student)
    distiller.train_on_batch(x, y)
    own = {id(variable) for variable in distiller.non_trainable_variables}
    assert not any(id(variable) in own for variable in teacher.variables)
    state = distiller._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    batch = BatchAndLent((x, y), [variable.value for variable in distiller.lent_variables])
    step = jax.make_jaxpr(distiller.train_step)(state, batch)
    assert sum(np.size(constant) for constant in step.consts) < width


@only_torch
def test_teacher_is_no_part_of_the_torch_module():
    teacher, student = models.sequential(16), models.linear()
    distiller = compiled(teacher, student)
    teachers = {id(variable.value) for variable in teacher.variables}
    assert not teachers & {id(parameter) for parameter in distiller.parameters()}
    assert teacher not in list(distiller.modules())
    distiller.train()
    distiller.eval()
    assert teacher.training


# --- Point 4: one forward pass each, and none of the teacher where it is not asked for.


class Counts:
    """How often teacher and student ran since it was last asked."""

    def __init__(self, teacher, student):
        self.probes = (teacher, student)

    def __call__(self):
        if BACKEND == "jax":
            import jax

            jax.effects_barrier()
        counts = tuple(probe.runs for probe in self.probes)
        for probe in self.probes:
            probe.reset()
        return counts


@cases_in_turn("each mode of Keras's is run in test_distiller_modes.py")
@pytest.mark.parametrize(
    ("run_eagerly", "evaluate_teacher"), [(False, False), (False, True), (True, False)]
)
def test_forward_passes(rng, run_eagerly, evaluate_teacher):
    (teacher, of_teacher), (student, of_student) = probed(softmax=True), probed(softmax=True)
    x, y = models.features(rng, 12)
    distiller = Distiller(teacher, student)
    # TensorFlow's XLA has no Python within its steps, so it could not count.
    distiller.compile(
        kd_loss=TemperatureKD(4),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
        jit_compile=BACKEND == "jax" and not run_eagerly,
        evaluate_teacher=evaluate_teacher,
    )
    counts = Counts(of_teacher, of_student)
    distiller.evaluate(x, y, batch_size=4, verbose=0)  # Whatever building takes is done here.
    distiller.train_on_batch(x[:4], y[:4])
    counts()
    of_evaluation = 3 if evaluate_teacher else 0
    distiller.fit(x, y, batch_size=4, verbose=0)
    assert counts() == (3, 3)
    distiller.fit(x, y, batch_size=4, validation_data=(x, y), validation_batch_size=4, verbose=0)
    assert counts() == (3 + of_evaluation, 6)
    logs = distiller.evaluate(x, y, batch_size=4, return_dict=True, verbose=0)
    assert counts() == (of_evaluation, 3)
    assert ("kd_loss" in logs) == evaluate_teacher
    distiller.predict(x, batch_size=4, verbose=0)
    assert counts() == (0, 3)
    distiller.train_on_batch(x[:4], y[:4])
    assert counts() == (1, 1)
    distiller.test_on_batch(x[:4], y[:4])
    assert counts() == (of_evaluation // 3, 1)
    distiller.predict_on_batch(x[:4])
    assert counts() == (0, 1)
    distiller(x)
    assert counts() == (0, 1)


def test_forward_passes_of_subclassed_models(rng):
    teacher, of_teacher = probed(subclassed=True)
    student, of_student = probed(softmax=True, subclassed=True)
    x, y = models.features(rng, 12)
    distiller = Distiller(teacher, student, teacher_from_logits=True, student_from_logits=False)
    distiller.compile(
        loss="sparse_categorical_crossentropy",
        kd_loss=TemperatureKD(4),
        jit_compile=BACKEND == "jax",
    )
    counts = Counts(of_teacher, of_student)
    distiller.train_on_batch(x[:4], y[:4])
    counts()
    distiller.fit(x, y, batch_size=4, verbose=0)
    assert counts() == (3, 3)


def test_evaluation_with_the_teacher_reports_the_objective(rng):
    teacher, student = models.sequential(16), models.linear(kernel_regularizer="l2")
    x, y = models.features(rng)
    rows, logits = models.one_hot(y), models.outputs(student, x)
    student_loss = models.cross_entropy(rows, logits).mean()
    kd_loss = models.ats(rows, logits, models.outputs(teacher, x)).mean()
    regularisation = 0.01 * np.sum(np.square(student.layers[0].kernel))
    distiller = Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        kd_loss=AsymmetricTemperatureKD(4, 2),
        kd_weight=0.3,
        evaluate_teacher=True,
    )
    history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    evaluated = distiller.evaluate(x, y, return_dict=True, verbose=0)
    expected = {
        "student_loss": student_loss,
        "kd_loss": kd_loss,
        "loss": 0.7 * student_loss + 0.3 * kd_loss + regularisation,
    }
    assert evaluated == pytest.approx(expected, rel=1e-5)
    assert {name: values[0] for name, values in history.items()} == pytest.approx(
        expected | {f"val_{name}": value for name, value in expected.items()}, rel=1e-5
    )


def test_evaluation_runs_without_a_teacher_that_could_run(rng):
    teacher, student = models.sequential(16), models.linear()
    x, y = models.features(rng)
    distiller = compiled(teacher, student)

    class Fails(Exception):
        pass

    def fail(*args, **kwargs):
        raise Fails

    distiller._pair.teacher.view.model.call = fail
    distiller.evaluate(x, y, verbose=0)
    distiller.predict(x, verbose=0)
    with contextlib.suppress(Fails):
        distiller.fit(x, y, verbose=0)
        pytest.fail("training did without the teacher")
