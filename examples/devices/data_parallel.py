"""Several accelerators of one machine, JAX: one line at the top of an existing script.

    python examples/devices/data_parallel.py --devices 2

The line is marked. Without accelerators the CPU is divided into as many devices, so that the
script runs anywhere.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats


def network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    # JAX divides every batch evenly, the last one too: here that is 48 of 1,200, and 16 of 592.
    x, x_test, y, y_test = train_test_split(
        (images / 16).astype("float32"), labels, train_size=1200, test_size=592, random_state=0
    )
    # Pieces of a CPU: with fewer than two threads for each, XLA can wait for ever.
    os.environ["NPROC"] = str(max(2 * options.devices, os.cpu_count() or 1))
    jax.config.update("jax_num_cpu_devices", options.devices)  # leaves accelerators alone
    devices = keras.distribution.list_devices()[: options.devices]

    # ADDED, before any model is built or loaded:
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))

    keras.utils.set_random_seed(0)
    teacher = network(256, 256)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(x, y, batch_size=64, epochs=options.epochs, verbose=0)

    distiller = keras_ats.Distiller(teacher, network(16))
    distiller.compile(
        "adam", kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), metrics=["accuracy"]
    )
    # The batch size is that of all devices together: each gets 32 of these 64 images.
    distiller.fit(x, y, batch_size=64, epochs=options.epochs, verbose=2)

    scores = distiller.evaluate(x_test, y_test, verbose=0, return_dict=True)
    distiller.student.save("student.keras")
    print(f"Test accuracy {scores['accuracy']:.1%} on {len(devices)} devices")


if __name__ == "__main__":
    main()
