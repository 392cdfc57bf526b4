"""`import keras_ats` brings in nothing that is not needed; benchmarks/import_time.py times it."""

import json
import os
import subprocess
import sys

import keras

INACTIVE = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
OPTIONAL = {"matplotlib", "tensorflow_datasets", "keras_cv", "keras_hub", "sklearn", "pandas"}

# What is asked for is recorded too: Keras loads some of these itself, and then nothing is added.
SCRIPT = """
import builtins, json, sys
import keras
before, asked, plain_import = set(sys.modules), set(), builtins.__import__
def recording_import(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and (globals or {}).get("__name__", "").startswith("keras_ats"):
        asked.add(name)
    return plain_import(name, globals, locals, fromlist, level)
builtins.__import__ = recording_import
import keras_ats
modules = asked | (set(sys.modules) - before)
packages = sorted({name.partition(".")[0] for name in modules})
print(json.dumps({"packages": packages, "public": dir(keras_ats)}))
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
    packages = set(result["packages"])
    assert not packages & INACTIVE, "a backend that is not active"
    assert not packages & OPTIONAL, "an extra that may not be there"
    assert packages - set(sys.stdlib_module_names) <= {"keras_ats", "keras", "numpy"}
    assert "Distiller" in result["public"]
