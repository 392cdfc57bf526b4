"""Models that are used in several threads at once are used as if there were one."""

import itertools
import threading

import keras
import models
import numpy as np
import pytest

from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD

BACKEND = keras.backend.backend()
ROUNDS = 5
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="only there fit empties the model it trains")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def make(teacher, seed):
    """A compiled distiller; the same one for the same seed."""
    keras.utils.set_random_seed(seed)
    distiller = Distiller(teacher, models.sequential(4, softmax=True))
    distiller.compile(
        keras.optimizers.Adam(0.01),
        kd_loss=AsymmetricTemperatureKD(4, 2),
        metrics=["accuracy"],
        jit_compile=BACKEND == "jax",  # XLA would take TensorFlow a minute.
    )
    return distiller


def train(distiller, x, y, rounds=ROUNDS):
    """What each round logs."""
    fit = {"batch_size": 8, "shuffle": False, "validation_data": (x, y), "verbose": 0}
    return [distiller.fit(x, y, **fit).history for _ in range(rounds)]


def check_same(distiller, expected):
    pairs = (
        (distiller.variables, expected.variables),
        (distiller.optimizer.variables, expected.optimizer.variables),
    )
    for ones, others in pairs:
        for one, other in zip(ones, others, strict=True):
            np.testing.assert_array_equal(numpy(one), numpy(other))


def in_threads(work, beside):
    """Runs `work` at once, and `beside` again and again until that is done; what was raised."""
    raised, done, calls = [], threading.Event(), [0] * len(beside)

    def guarded(function):
        try:
            function()
        except Exception as error:
            raised.append(error)

    def repeated(index):
        # The pause leaves Python's lock to those that work.
        while not done.wait(0.002):
            beside[index]()
            calls[index] += 1

    others = [
        threading.Thread(target=guarded, args=(lambda i=i: repeated(i),))
        for i in range(len(beside))
    ]
    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in (*others, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    for thread in others:
        thread.join()
    return raised, calls


def check_sums(predictions):
    np.testing.assert_allclose(numpy(predictions).sum(-1), 1.0, atol=1e-5)


def test_two_distillers_on_one_teacher_beside_all_models_that_are_asked(rng):
    x, y = models.features(rng, 32)
    teacher = models.sequential(16, softmax=True)
    activations = [layer.activation for layer in teacher.layers]
    weights, predictions = models.numpy_weights(teacher), models.outputs(teacher, x)
    alone = [make(teacher, seed) for seed in (1, 2)]
    logs = [train(distiller, x, y) for distiller in alone]

    together = [make(teacher, seed) for seed in (1, 2)]
    results = [None, None]

    def fit(index):
        results[index] = train(together[index], x, y)

    def ask_teacher():
        np.testing.assert_allclose(models.outputs(teacher, x), predictions, atol=1e-6)

    asked = [ask_teacher]
    for model in (*together, *(distiller.student for distiller in together)):
        asked.append(lambda model=model: check_sums(model(x, training=False)))
    raised, calls = in_threads([lambda: fit(0), lambda: fit(1)], asked)
    assert raised == []
    assert min(calls) >= ROUNDS
    assert results == logs
    for distiller, expected in zip(together, alone, strict=True):
        check_same(distiller, expected)
    assert [layer.activation for layer in teacher.layers] == activations
    for actual, expected in zip(models.numpy_weights(teacher), weights, strict=True):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(models.outputs(teacher, x), predictions)


class Asks(keras.callbacks.Callback):
    """Calls models after each batch, and lets their methods predict.

    Not through `self.model`, which on JAX would first give all variables their values back.
    """

    def __init__(self, distiller, x):
        super().__init__()
        self.distiller, self.x, self.predictions = distiller, x, []

    def on_train_batch_end(self, batch, logs=None):
        distiller = self.distiller
        check_sums(distiller.teacher(self.x, training=False))
        said = numpy(distiller.student(self.x, training=False))
        np.testing.assert_allclose(numpy(distiller(self.x)), said, rtol=1e-5)
        np.testing.assert_allclose(distiller.student.predict(self.x, verbose=0), said, rtol=1e-5)
        if batch == 1:
            distiller.predict(self.x, verbose=0)
            distiller.predict_on_batch(self.x)
        np.testing.assert_allclose(numpy(distiller.student(self.x)), said, rtol=1e-5)
        self.predictions.append(said)


def test_models_are_asked_between_batches(rng):
    x, y = models.features(rng, 32)
    teacher = models.sequential(16, softmax=True)
    expected, asked = make(teacher, 1), make(teacher, 1)
    callback = Asks(asked, x)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 2}
    logs = expected.fit(x, y, **fit).history
    same = asked.fit(x, y, callbacks=[callback], **fit).history
    assert same == logs
    check_same(asked, expected)
    # What was trained, not what it was trained from.
    assert len(callback.predictions) == 8
    for one, other in itertools.pairwise(callback.predictions):
        assert np.abs(one - other).max() > 1e-5
    np.testing.assert_array_equal(callback.predictions[-1], numpy(expected.student(x)))


@pytest.mark.parametrize("batch", [0, 3])
def test_settings_that_are_assigned_between_batches_are_heard_at_once(batch, rng):
    x, y = models.features(rng, 32)

    class Silences(keras.callbacks.Callback):
        def on_train_batch_end(self, at, logs=None):
            if at == batch:
                distiller.kd_weight.assign(0.0)

    distiller = make(models.sequential(16), 1)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 2}
    logs = distiller.fit(x, y, callbacks=[Silences()], **fit).history
    assert float(numpy(distiller.kd_weight)) == 0.0
    # All that is left is what the labels say.
    assert logs["loss"][1] == pytest.approx(logs["student_loss"][1], rel=1e-6)
    assert logs["loss"][0] != pytest.approx(logs["student_loss"][0], rel=1e-3)


@only_jax
def test_what_a_thread_has_read_before_a_step_lives_on(rng):
    x, y = models.features(rng, 16)
    distiller = make(models.sequential(16, softmax=True), 1)
    kernel = distiller.student.layers[0].kernel
    values, asked, done = [], threading.Event(), threading.Event()

    def read():
        values.append((kernel.value, numpy(kernel)))
        asked.set()
        done.wait()

    reader = threading.Thread(target=read)
    reader.start()
    asked.wait()
    distiller.fit(x, y, batch_size=8, verbose=0)
    done.set()
    reader.join()
    ((value, before),) = values
    np.testing.assert_array_equal(numpy(value), before)
    assert np.abs(numpy(kernel) - before).max() > 0


@only_jax
def test_methods_that_write_variables_are_refused_in_other_threads(rng):
    x, y = models.features(rng, 32)
    distiller = make(models.sequential(16), 1)
    raised = []

    class Starts(keras.callbacks.Callback):
        def on_train_batch_end(self, at, logs=None):
            for method in (distiller.predict, distiller.student.predict_on_batch):
                raised.extend(in_threads([lambda method=method: method(x)], [])[0])

    expected = make(models.sequential(16), 1)
    distiller.fit(x, y, verbose=0, callbacks=[Starts()])
    expected.fit(x, y, verbose=0)
    assert len(raised) == 2
    for error in raised:
        assert isinstance(error, RuntimeError)
        assert "can be called in another thread" in str(error)


@only_jax
def test_a_teacher_that_is_changed_between_batches_is_heard_at_once(rng):
    x, y = models.features(rng, 32)
    teacher = models.sequential(16)

    class Silence(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            teacher.set_weights([0 * weight for weight in teacher.get_weights()])

    distiller = make(teacher, 1)
    distiller.optimizer.learning_rate.assign(0.0)
    student = models.outputs(distiller.student, x)
    logs = distiller.fit(x, y, batch_size=16, verbose=0, callbacks=[Silence()], epochs=2).history
    # A teacher that says nothing teaches the uniform distribution.
    expected = -np.log(student).mean()
    assert logs["kd_loss"][1] == pytest.approx(expected, rel=1e-5)
    assert logs["kd_loss"][0] != pytest.approx(expected, rel=1e-3)
