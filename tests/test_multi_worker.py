"""Keras's `fit` does not run on several workers of TensorFlow; so says the guide.

This is about Keras alone, and here so that we notice when Keras repairs it: then replace this test
by a case of test_distribution.py, and correct docs/guides/several_devices.md.
"""

import json

import keras
import pytest
from processes import ROOT, free_ports, run_together

# The beginning and the end of the message; in between it shows the batch.
MESSAGE = (
    "ValueError: Attempt to convert a value (PerReplica:{",
    "with an unsupported type (<class 'tensorflow.python.distribute.values.PerReplica'>) "
    "to a Tensor.",
)
PLAIN_KERAS = """
import os
import sys

# Who takes part, and which of them this process is.
os.environ["TF_CONFIG"] = sys.argv[1]

import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()

import keras

with strategy.scope():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
print("replicas:", strategy.num_replicas_in_sync)
try:
    model.fit(np.zeros((8, 5)), np.zeros((8, 3)), batch_size=4, verbose=0)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
else:
    print("fit ran", flush=True)
"""

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's"
)


def test_fit_of_a_plain_model_fails_on_two_workers():
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    configurations = [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
    commands = [["-c", PLAIN_KERAS, configuration] for configuration in configurations]
    for printed in run_together(commands):
        assert "replicas: 2" in printed
        assert "fit ran" not in printed
        assert all(part in printed for part in MESSAGE), printed


def test_the_guide_shows_the_message():
    guide = (ROOT / "docs" / "guides" / "several_devices.md").read_text(encoding="utf-8")
    assert all(part in guide for part in MESSAGE)
