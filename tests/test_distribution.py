"""Training on several devices is training on one: the same weights and the same logs.

Run as a script this file is the process that trains, on one device and on several, and prints both.
A process of its own, because a distribution is global state and because it can be stopped.
"""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np

TIMEOUT = 300
CLASSES, FEATURES, SAMPLES = 3, 5, 32


def _train(keras, strategy_scope, expected_devices):
    """Logs and final weights of a run in which every part of the objective counts."""
    import keras_ats

    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, SAMPLES)
    # Very unequal halves of a batch: a mean of means would not be the mean.
    weights = (rng.uniform(0.1, 1, SAMPLES) * np.tile([1, 1, 1, 1, 9, 9, 9, 9], 4)).astype(
        "float32"
    )

    def model(width, **regularizers):
        built = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(width, "tanh", **regularizers),
                keras.layers.Dense(CLASSES, "softmax", **regularizers),
            ]
        )
        built.set_weights([rng.normal(size=weight.shape) for weight in built.get_weights()])
        return built

    with strategy_scope:
        teacher = model(8)
        student = model(4, kernel_regularizer="l2", activity_regularizer="l1")
        distiller = keras_ats.Distiller(teacher, student)
        distiller.compile(
            keras.optimizers.SGD(0.2, momentum=0.9),
            kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2),
            kd_weight=0.3,
            metrics=["accuracy"],
            weighted_metrics=["sparse_categorical_crossentropy"],
            evaluate_teacher=True,
        )
    history = distiller.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=8,
        epochs=3,
        shuffle=False,
        validation_data=(x[::-1], y[::-1], weights),
        validation_batch_size=16,
        verbose=0,
    ).history
    devices = _devices_of(student.weights[0].value)
    if devices != expected_devices:
        raise RuntimeError(f"Trained on {devices} devices, not on {expected_devices}.")
    return {"logs": history, "weights": [weight.tolist() for weight in student.get_weights()]}


def _devices_of(tensor):
    if hasattr(tensor, "sharding"):
        return len(tensor.sharding.device_set)
    return len(getattr(tensor, "values", [tensor]))


def _train_on_tensorflow(keras):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return {
        "one": _train(keras, contextlib.nullcontext(), 1),
        "several": _train(keras, strategy.scope(), 2),
    }


def _train_on_jax(keras):
    import jax

    one = _train(keras, contextlib.nullcontext(), 1)
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=jax.devices()))
    return {"one": one, "several": _train(keras, contextlib.nullcontext(), 4)}


def main():
    import keras

    train = {"tensorflow": _train_on_tensorflow, "jax": _train_on_jax}
    print(json.dumps(train[keras.backend.backend()](keras)))


if __name__ == "__main__":
    main()
    sys.exit()


import keras  # noqa: E402
import pytest  # noqa: E402

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="on torch each device has a process of its own, with DistributedDataParallel",
)


@pytest.fixture(scope="module")
def runs():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, __file__],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,  # Devices that wait for one another for ever are the typical failure.
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_same_logs(runs):
    one, several = runs["one"]["logs"], runs["several"]["logs"]
    parts = {
        "loss",
        "student_loss",
        "kd_loss",
        "accuracy",
        "sparse_categorical_crossentropy",
    }
    assert set(one) == set(several) == parts | {f"val_{part}" for part in parts}
    for name in one:
        np.testing.assert_allclose(several[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_same_weights(runs):
    for one, several in zip(runs["one"]["weights"], runs["several"]["weights"], strict=True):
        np.testing.assert_allclose(several, one, atol=1e-5)


def test_the_logs_add_up(runs):
    """The parts are those of the whole, so no part is logged per device."""
    logs = {name: np.array(values) for name, values in runs["several"]["logs"].items()}
    assert np.all(logs["loss"] > 0.7 * logs["student_loss"] + 0.3 * logs["kd_loss"])
    assert logs["loss"][-1] < logs["loss"][0]
