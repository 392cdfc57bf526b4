"""The examples of several devices run as they stand, on pieces of the CPU."""

import re

import keras
import numpy as np
import pytest
from processes import ROOT, XLA_FLAGS, run_together

# What the number of devices is asked for with, and the number that comes of it.
EXAMPLES = {
    "tensorflow": {"mirrored.py": (["--devices", 2], 2)},
    "jax": {
        "data_parallel.py": (["--devices", 2], 2),
        "sharded_teacher.py": (["--devices", 4, "--pieces", 2], 4),
        "several_processes.py": (["--processes", 2, "--devices", 2], 4),
    },
    "torch": {"ddp.py": (["--devices", 2], 2)},
}[keras.backend.backend()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path):
    arguments, devices = EXAMPLES[name]
    command = [ROOT / "examples" / "devices" / name, *arguments, "--epochs", 8]
    # Devices are the example's own business; conftest.py sets up those of this process.
    printed = run_together([command], folder=tmp_path, XLA_FLAGS=XLA_FLAGS)[0]
    last_line = printed.splitlines()[-1]
    accuracy = re.fullmatch(rf"Test accuracy (\d+\.\d)% on {devices} devices", last_line)
    # A class in ten is right by chance; eight short epochs are far from enough for more than this.
    assert accuracy, printed
    assert float(accuracy[1]) > 40
    student = keras.saving.load_model(tmp_path / "student.keras")
    assert student.predict(np.zeros((2, 64), "float32"), verbose=0).shape == (2, 10)
    if name == "sharded_teacher.py":
        assert "contract/kernel: (1024, 1024), on each device (512, 1024)" in printed


def test_every_example_has_a_test_and_a_line_in_the_guide():
    found = {path.name for path in (ROOT / "examples" / "devices").glob("*.py")}
    guide = (ROOT / "docs" / "guides" / "several_devices.md").read_text(encoding="utf-8")
    assert set(EXAMPLES) <= found
    assert all(name in guide for name in found)
