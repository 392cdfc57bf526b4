"""A call that fails leaves teacher, student and optimizer as the last step that did not left them.

On JAX that is not Keras's doing: there `fit` takes the variables away, and a failed one keeps them.
"""

import keras
import models
import numpy as np
import pytest

from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD

BACKEND = keras.backend.backend()
# There a step that fails while it is traced spoils what comes after it, for a plain model too:
# "Creating variables on a non-first call to a function decorated with tf.function".
not_on_tensorflow = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="what a failed trace leaves behind is Keras's own"
)


def make():
    keras.utils.set_random_seed(1)
    teacher = models.stochastic(softmax=True)
    student = models.stochastic(softmax=True, dropout=0.0)
    distiller = Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.Adam(0.01),
        kd_loss=AsymmetricTemperatureKD(4, 2),
        metrics=["accuracy"],
        jit_compile=BACKEND == "jax",
    )
    return distiller


def state(distiller):
    variables = (
        *distiller.teacher.variables,
        *distiller.variables,
        *distiller.optimizer.variables,
    )
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def check_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def check_usable(distiller, x):
    models.outputs(distiller.teacher, x)
    models.outputs(distiller.student, x)
    distiller.predict(x, batch_size=4, verbose=0)


class Fails(keras.utils.PyDataset):
    """Batches of 4, of which one has inputs that no model takes, or cannot be read at all."""

    def __init__(self, x, y, at, wrong):
        super().__init__()
        self.x, self.y, self.at, self.wrong = x, y, at, wrong

    def __len__(self):
        return len(self.x) // 4

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        if index != self.at:
            return self.x[part], self.y[part]
        if self.wrong is None:
            raise ArithmeticError("no such batch")
        return self.wrong, self.y[part]


class Interrupts(keras.callbacks.Callback):
    """Presses Ctrl-C after a batch, at some place in training, evaluation or prediction."""

    def __init__(self, hook, at=1):
        super().__init__()
        self.at = at
        setattr(self, hook, self.interrupt)

    def interrupt(self, batch, logs=None):
        if batch >= self.at:
            raise KeyboardInterrupt


@not_on_tensorflow
def test_calls_that_fail_change_nothing(rng):
    x, y = models.features(rng)
    wrong = np.ones((4, models.FEATURES + 2), "float32")
    distiller, expected = make(), make()
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    calls = {
        "predict": lambda: distiller.predict(wrong, verbose=0),
        "predict_on_batch": lambda: distiller.predict_on_batch(wrong),
        "evaluate": lambda: distiller.evaluate(wrong, y[:4], verbose=0),
        "test_on_batch": lambda: distiller.test_on_batch(wrong, y[:4]),
        "train_on_batch": lambda: distiller.train_on_batch(wrong, y[:4]),
        "fit": lambda: distiller.fit(wrong, y[:4], verbose=0),
        "fit without data": lambda: distiller.fit(Fails(x, y, 0, None), shuffle=False, verbose=0),
        "fit, interrupted": lambda: distiller.fit(
            x, y, callbacks=[Interrupts("on_train_batch_begin", 0)], **fit
        ),
        "evaluate, interrupted": lambda: distiller.evaluate(
            x, y, batch_size=4, verbose=0, callbacks=[Interrupts("on_test_batch_end")]
        ),
        "predict, interrupted": lambda: distiller.predict(
            x, batch_size=4, verbose=0, callbacks=[Interrupts("on_predict_batch_end")]
        ),
    }
    # Before the first step, for which variables of optimizer and metrics are made, and after it.
    for trained in (False, True):
        if trained:
            distiller.fit(x, y, **fit)
            expected.fit(x, y, **fit)
        for call in calls.values():
            before = state(distiller)[: len(distiller.teacher.variables)]
            # Each backend has errors of its own for shapes.
            with pytest.raises((Exception, KeyboardInterrupt)):
                call()
            after = state(distiller)
            check_same(after[: len(before)], before)
            if trained:
                check_same(after, state(expected))
            check_usable(distiller, x)
    distiller.fit(x, y, **fit)
    expected.fit(x, y, **fit)
    check_same(state(distiller), state(expected))


@not_on_tensorflow
def test_a_fit_that_fails_later_keeps_the_last_good_step(rng):
    x, y = models.features(rng)
    wrong = np.ones((4, models.FEATURES + 2), "float32")
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    failures = {
        "wrong batch": {"x": Fails(x, y, 2, wrong)},
        "no batch": {"x": Fails(x, y, 2, None)},
        "interrupted": {"x": x, "y": y, "callbacks": [Interrupts("on_train_batch_end")], **fit},
    }
    distiller, expected = make(), make()
    for arguments in failures.values():
        with pytest.raises((Exception, KeyboardInterrupt)):
            distiller.fit(**{"shuffle": False, "verbose": 0} | arguments)
        expected.fit(x[:8], y[:8], **fit)
        check_same(state(distiller), state(expected))
        check_usable(distiller, x)

    # Within the validation: all of the epoch's steps were good.
    callbacks = [Interrupts("on_test_batch_end")]
    with pytest.raises(KeyboardInterrupt):
        distiller.fit(x, y, validation_data=(x, y), callbacks=callbacks, **fit)
    expected.fit(x, y, **fit)
    check_same(state(distiller), state(expected))

    second = Distiller(distiller.teacher, models.linear(softmax=True))
    second.compile("sgd", kd_loss=AsymmetricTemperatureKD(4, 2), jit_compile=BACKEND == "jax")
    assert np.isfinite(second.fit(x, y, **fit).history["loss"]).all()
    check_same(state(distiller), state(expected))


def test_a_prediction_before_compile_may_fail_too(rng):
    x, _ = models.features(rng)
    distiller = Distiller(models.sequential(8), models.linear())
    before = models.numpy_weights(distiller.student)
    with pytest.raises(Exception, match=r".+"):
        distiller.predict(np.ones((4, models.FEATURES + 2), "float32"), verbose=0)
    check_same(models.numpy_weights(distiller.student), before)
    assert distiller.predict(x, verbose=0).shape == (len(x), models.CLASSES)
