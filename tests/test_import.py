"""`import keras_ats` brings in nothing that is not needed; benchmarks/import_time.py times it."""

import json
import os
import subprocess
import sys

import keras

INACTIVE = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
OPTIONAL = {"matplotlib", "tensorflow_datasets", "keras_cv", "keras_hub", "sklearn", "pandas"}

SCRIPT = """
import json, sys
import keras
before = set(sys.modules)
import keras_ats
added = sorted(set(sys.modules) - before)
print(json.dumps({"added": added, "public": sorted(dir(keras_ats))}))
"""


def test_import_is_light():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    packages = set(result["packages"]) - {""}
    assert not packages & INACTIVE, "a backend that is not active"
    assert not packages & OPTIONAL, "an extra that may not be there"
    assert packages - set(sys.stdlib_module_names) <= {"keras_ats", "keras", "numpy"}
    assert "Distiller" in result["public"]
