"""Shared by all tests: one backend per process, chosen by KERAS_BACKEND."""

import gc
import os
from collections.abc import Iterator

from processes import COMPILE_FAST

# JAX reads these once, when its first array is made. Four devices let the data-parallel tests run
# in this process; everything else uses the first one. Each needs two threads, or XLA can wait for
# ever (docs/guides/several_devices.md).
os.environ["NPROC"] = "8"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        COMPILE_FAST,
    ]
).strip()

# torch before TensorFlow: the other order crashes on some builds. `make test KERAS=...` has none.
import importlib.util

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

import keras
import numpy as np
import pytest
from backends import left_to_others
from hypothesis import HealthCheck, settings

# What the backends trace is kept, so looking for garbage often finds little and takes long.
gc.set_threshold(50_000, 20, 20)

settings.register_profile(
    "keras_ats",
    deadline=None,  # The first call of each shape compiles.
    max_examples=30,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("keras_ats")

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two logical devices for MirroredStrategy; must be set before TensorFlow starts its devices.
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()]
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-case", action="store_true", help="every case of every table on every backend"
    )


def pytest_report_header() -> str:
    """What is tested: `make test KERAS=...` tests the installed wheel, with another Keras."""
    import keras_ats

    return f"keras_ats: {os.path.dirname(keras_ats.__file__)}, Keras {keras.__version__}"


def pytest_configure(config: pytest.Config) -> None:
    """Keras 3.10 and 3.11 warn whenever a loaded model with one input is called; 3.12 does not."""
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 12):
        config.addinivalue_line(
            "filterwarnings", "ignore:The structure of `inputs` doesn't match:UserWarning"
        )


def pytest_collection_finish() -> None:
    """What is imported stays: nobody need look through it for garbage again."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def what_stays() -> Iterator[None]:
    """The same of what the tests of a file leave behind, such as compiled functions."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Same weights and dropout masks in every run of a test."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random data of a test."""
    return np.random.default_rng(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps this backend's cases, and the share of them that run_all.py wants of this process.

    One share is the files that start processes of their own; the others gain from being together,
    for what one of their tests has compiled the next one finds.
    """
    # A case that is asked for by its name is run.
    if not config.getoption("--every-case") and not any("[" in name for name in config.args):
        deselect(config, items, left_to_others(items))
    share = os.environ.get("KERAS_ATS_SHARE_OF_TESTS")
    if share is None:
        return
    starts_others = share == "in_others"
    left = [item for item in items if starts_processes(item) is not starts_others]
    deselect(config, items, left)


def starts_processes(item: pytest.Item) -> bool:
    """Whether it is of a file that uses processes.py."""
    return hasattr(item.module, "run_together") or hasattr(item.module, "started")


def deselect(config: pytest.Config, items: list[pytest.Item], left: list[pytest.Item]) -> None:
    """Takes these out of the items, and has pytest count them."""
    config.hook.pytest_deselected(items=left)
    taken_out = {id(item) for item in left}
    items[:] = [item for item in items if id(item) not in taken_out]
