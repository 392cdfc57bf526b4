"""A teacher too large for one accelerator, JAX: its large layers in pieces, the student whole.

    python examples/devices/sharded_teacher.py --devices 4 --pieces 2

Four devices are two rows of two: each row works on half of every batch, and within a row each
device holds half of the teacher's large layers. Without accelerators the CPU is divided.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats


def large_teacher() -> keras.Model:
    """Yours would be loaded from a file, after the distribution has been set."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(1024, "relu", name="expand"),
            keras.layers.Dense(1024, "relu", name="contract"),
            keras.layers.Dense(10, "softmax", name="classes"),
        ],
        name="teacher",
    )


def small_student() -> keras.Model:
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(10, "softmax")]
    return keras.Sequential([keras.Input((64,)), *layers], name="student")


def teacher_in_pieces(devices: list[str], pieces: int) -> keras.distribution.ModelParallel:
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // pieces, pieces), ["batch", "model"], devices
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    # Columns of one layer and rows of the next: between the two nothing is exchanged. Keys are
    # regular expressions of variable paths; `.*` because a loaded model lacks its own name there.
    layout_map[".*expand/kernel"] = (None, "model")
    layout_map[".*expand/bias"] = ("model",)
    layout_map[".*contract/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--pieces", type=int, default=2, help="of the teacher's large layers")
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
    # Before any model is built or loaded, so that no device ever holds the whole teacher.
    keras.distribution.set_distribution(teacher_in_pieces(devices, options.pieces))

    keras.utils.set_random_seed(0)
    teacher = large_teacher()
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(x, y, batch_size=64, epochs=options.epochs, verbose=0)

    distiller = keras_ats.Distiller(teacher, small_student())
    distiller.compile(
        "adam", kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), metrics=["accuracy"]
    )
    distiller.fit(x, y, batch_size=64, epochs=options.epochs, verbose=2)

    # A key that matches no variable shards nothing, and Keras says nothing: look.
    for variable in teacher.variables:
        piece = variable.value.addressable_shards[0].data.shape
        print(f"{variable.path}: {tuple(variable.shape)}, on each device {piece}")
    scores = distiller.evaluate(x_test, y_test, verbose=0, return_dict=True)
    distiller.student.save("student.keras")
    print(f"Test accuracy {scores['accuracy']:.1%} on {len(devices)} devices")


if __name__ == "__main__":
    main()
