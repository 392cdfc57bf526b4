"""One of two processes that learn from one cache; started by test_cache_devices.py.

    python tests/cache_in_processes.py FOLDER HOST:PORT PROCESS

The first also learns by itself, from all rows, and compares.
"""

import os
import sys
from pathlib import Path

import caches
import jax
import keras
import numpy as np

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD
from keras_ats.teachers import CachedTeacher

PROCESSES, BATCH, COUNT = 2, 8, 16


def arrays():
    """Features, labels and ids of the cache that is made of arrays."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, *caches.IMAGE)).astype("float32")
    return x, np.arange(COUNT) % caches.CLASSES, 7 * rng.permutation(COUNT)


def learned(folder, process=None):
    """Final weights, learned from arrays and then from a dataset, all rows or a share of them."""
    # Before there are variables.
    distribute(auto_shard_dataset=False, process=process)
    keras.utils.set_random_seed(1)
    cache = CachedTeacher(folder / "arrays")
    distiller = keras_ats.Distiller(cache, caches.network(5))
    distiller.compile(keras.optimizers.SGD(0.1, 0.9), kd_loss=AsymmetricTemperatureKD(4, 2))
    x, y, ids = arrays() if process is None else (one[process::PROCESSES] for one in arrays())
    size = BATCH if process is None else BATCH // PROCESSES
    inputs, labels = cache.attach((x, y), ids=ids)
    found = [distiller.fit(inputs, labels, batch_size=size, shuffle=False, verbose=0).history]
    # Of the dataset Keras itself takes a share.
    samples = CachedTeacher(folder / "samples", caches.samples(COUNT))
    distribute(auto_shard_dataset=True, process=process)
    batches = samples.batches(BATCH, shuffle=True, drop_remainder=True)
    steps = samples.steps(BATCH, drop_remainder=True)
    found.append(distiller.fit(batches, steps_per_epoch=steps, verbose=0).history)
    return [history["loss"] for history in found], distiller.student.get_weights()


def distribute(*, auto_shard_dataset, process):
    if process is not None:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=auto_shard_dataset)
        )


def main(folder, address, process):
    os.environ["NPROC"] = "4"
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(address, PROCESSES, process)
    expected = learned(folder) if process == 0 else None
    found = learned(folder, process)
    if expected is None:
        return
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
