"""Several GPUs of one machine, TensorFlow: two lines around an existing script.

    python examples/devices/mirrored.py --devices 2

The two lines are marked. Without GPUs the CPU is divided into as many devices, so that the script
runs anywhere.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats


def devices(count: int) -> list[str]:
    """Names of GPUs, or of pieces of the CPU where there are no GPUs."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return [f"GPU:{index}" for index in range(min(count, len(gpus)))]
    cpu = tf.config.list_physical_devices("CPU")[0]
    pieces = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, pieces)
    return [f"CPU:{index}" for index in range(count)]


def network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        (images / 16).astype("float32"), labels, test_size=597, random_state=0
    )
    keras.utils.set_random_seed(0)

    strategy = tf.distribute.MirroredStrategy(devices(options.devices))  # ADDED
    with strategy.scope():  # ADDED: models, distiller and compile within
        teacher = network(256, 256)
        teacher.compile("adam", "sparse_categorical_crossentropy")
        distiller = keras_ats.Distiller(teacher, network(16))
        distiller.compile(
            "adam", kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), metrics=["accuracy"]
        )
    teacher.fit(x, y, batch_size=64, epochs=options.epochs, verbose=0)
    # The batch size is that of all devices together: each gets 32 of these 64 images.
    distiller.fit(x, y, batch_size=64, epochs=options.epochs, verbose=2)

    scores = distiller.evaluate(x_test, y_test, verbose=0, return_dict=True)
    distiller.student.save("student.keras")
    print(f"Test accuracy {scores['accuracy']:.1%} on {strategy.num_replicas_in_sync} devices")


if __name__ == "__main__":
    main()
