"""What is learned from a cache on two devices is what is learned on one."""

import sys
from pathlib import Path

import caches
import conftest  # noqa: F401  # Sets up the devices, also in a process without pytest.
import keras
import numpy as np
import pytest
from devices import two_devices
from processes import XLA_FLAGS, free_ports, run_together

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD


def learned(cache):
    keras.utils.set_random_seed(1)
    student = caches.network(5)
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile(keras.optimizers.SGD(0.1, 0.9), kd_loss=AsymmetricTemperatureKD(4, 2))
    history = distiller.fit(
        cache.batches(8, shuffle=True, drop_remainder=True),
        steps_per_epoch=cache.steps(8, drop_remainder=True),
        epochs=2,
        verbose=0,
    ).history
    return history["loss"], student.get_weights()


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="no data-parallel fit on torch")
def test_two_devices_learn_from_a_cache_as_one(tmp_path):
    # TensorFlow mixes up the collectives of two strategies in one process.
    run_together([[__file__, tmp_path]])


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="one fit over processes is JAX's")
def test_each_process_reads_its_rows_of_one_cache(tmp_path):
    import cache_in_processes

    x, y, ids = cache_in_processes.arrays()
    samples = caches.samples(cache_in_processes.COUNT)
    for data, name, own in (((x, y), "arrays", {"ids": ids}), (samples, "samples", {})):
        teacher = caches.Function(np.prod(caches.IMAGE))
        keras_ats.cache_teacher(teacher, data, tmp_path / name, name="map", verbose=0, **own)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    script = cache_in_processes.__file__
    run_together(
        [[script, tmp_path, address, process] for process in range(cache_in_processes.PROCESSES)],
        XLA_FLAGS=XLA_FLAGS,
    )


def compare_devices(folder):
    teacher = caches.network()
    cache = keras_ats.cache_teacher(
        teacher, caches.samples(16), folder, views=2, batch_size=16, verbose=0
    )
    expected, weights = learned(cache)
    with two_devices():
        found, others = learned(cache)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    compare_devices(Path(sys.argv[1]))
