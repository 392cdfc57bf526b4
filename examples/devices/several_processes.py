"""Several machines, JAX: a process on each, and one `fit` over the devices of all.

On two machines, the first of which is called host0:

    python several_processes.py --processes 2 --process 0 --address host0:12345
    python several_processes.py --processes 2 --process 1 --address host0:12345

Without --process the script starts all processes itself, on this machine:

    python examples/devices/several_processes.py --processes 2 --devices 2
"""

import argparse
import os
import socket
import subprocess
import sys
import time

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats

BATCH_SIZE = 64  # of all devices together


def network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])


def train(options: argparse.Namespace) -> None:
    """Runs in every process alike; only the data and who saves differ."""
    # Only for devices that are pieces of a CPU; accelerators are left alone. With fewer than two
    # threads for each piece, XLA can wait for ever.
    os.environ["NPROC"] = str(max(2 * options.devices, os.cpu_count() or 1))
    jax.config.update("jax_num_cpu_devices", options.devices)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(options.address, options.processes, options.process)
    # Each process feeds its own share, so Keras must not divide it once more.
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)

    def share(array: np.ndarray) -> np.ndarray:
        return array[options.process :: options.processes]

    images, labels = load_digits(return_X_y=True)
    # JAX divides every batch evenly, the last one too: here that is 48 of 1,200, and 16 of 592.
    x, x_test, y, y_test = map(
        share,
        train_test_split(
            (images / 16).astype("float32"), labels, train_size=1200, test_size=592, random_state=0
        ),
    )
    own_batch = {"batch_size": BATCH_SIZE // options.processes, "verbose": 0}

    keras.utils.set_random_seed(0)  # the same initial weights everywhere
    teacher = network(256, 256)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    teacher.fit(x, y, epochs=options.epochs, **own_batch)
    distiller = keras_ats.Distiller(teacher, network(16))
    distiller.compile(
        "adam", kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), metrics=["accuracy"]
    )
    distiller.fit(x, y, epochs=options.epochs, **own_batch)
    scores = distiller.evaluate(x_test, y_test, return_dict=True, **own_batch)  # of all shares

    if options.process == 0:
        distiller.student.save("student.keras")
        print(f"Test accuracy {scores['accuracy']:.1%} on {jax.device_count()} devices")


def start_all(options: argparse.Namespace) -> int:
    """Starts the processes on this machine; where one fails, stops the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *sys.argv, "--address", address, "--process"]
    workers = [subprocess.Popen([*command, str(index)]) for index in range(options.processes)]
    try:
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return 1 if any(codes) else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    parser.add_argument("--address", help="host and port of process 0, the same for all")
    parser.add_argument("--devices", type=int, default=2, help="of each process without GPUs")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    if options.process is None:
        sys.exit(start_all(options))
    train(options)


if __name__ == "__main__":
    main()
