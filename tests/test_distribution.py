"""Training on several devices is training on one: the same weights and the same logs."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from device_runs import PROCESSES
from device_training import BATCH, FEATURES, TEACHER_UNITS, make_distiller
from processes import XLA_FLAGS, free_ports, run_together

SCRIPT = Path(__file__).with_name("device_runs.py")
BACKEND = keras.backend.backend()
# Names of the runs in device_runs.py, and over how many devices they spread the student.
IN_ONE_PROCESS = {
    "tensorflow": {"mirrored": 2},
    "jax": {
        "data_parallel": 4,
        "teacher_on_two": 2,
        "teacher_on_two_rows": 4,
        "teacher_over_batch": 4,
    },
    "torch": {},
}[BACKEND]
IN_TWO_PROCESSES = {
    "tensorflow": {},  # test_multi_worker.py
    "jax": {"own_share": 4, "whole_dataset": 4, "teacher_over_processes": 4},
    "torch": {"ddp": 2},
}[BACKEND]
LOSSES = {"loss", "student_loss", "kd_loss"}
METRICS = {
    "accuracy",
    "sparse_categorical_crossentropy",
    "derived_variance",
    "student_expected_calibration_error",
}


def run(*arguments):
    # Devices are the script's own business; conftest.py sets up those of this process.
    printed = run_together([[SCRIPT, *each] for each in arguments], XLA_FLAGS=XLA_FLAGS)
    return [json.loads(text.splitlines()[-1]) for text in printed]


@pytest.fixture(scope="module")
def one_process():
    return run([])[0]


@pytest.fixture(scope="module")
def two_processes():
    address = f"127.0.0.1:{free_ports(1)[0]}"
    arguments = ["--address", address, "--process"]
    return run(*[[*arguments, process] for process in range(PROCESSES)])


@pytest.fixture(params=[*IN_ONE_PROCESS, *IN_TWO_PROCESSES])
def case(request):
    return request.param


@pytest.fixture
def several(case, request):
    """What each process of a case came to."""
    if case in IN_ONE_PROCESS:
        return [request.getfixturevalue("one_process")[case]]
    return [process[case] for process in request.getfixturevalue("two_processes")]


def test_it_ran_on_several_devices(case, several):
    expected = (IN_ONE_PROCESS | IN_TWO_PROCESSES)[case]
    assert [process["devices"] for process in several] == [expected] * len(several)


def test_same_logs(case, several, one_process):
    one = one_process["one"]["logs"]
    assert set(one) == {*LOSSES, *METRICS, *(f"val_{name}" for name in LOSSES | METRICS)}
    for process in several:
        # A loop of one's own logs what it likes.
        assert set(process["logs"]) == (LOSSES if case == "ddp" else set(one))
        for name, values in process["logs"].items():
            np.testing.assert_allclose(values, one[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_same_weights(several, one_process):
    for process in several:
        for actual, expected in zip(process["weights"], one_process["one"]["weights"], strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_logs_add_up(one_process, several):
    """The parts are those of the whole, so no part is logged per device."""
    for process in [one_process["one"], *several]:
        logs = {name: np.array(values) for name, values in process["logs"].items()}
        assert np.all(logs["loss"] > 0.7 * logs["student_loss"] + 0.3 * logs["kd_loss"])
        assert logs["loss"][-1] < logs["loss"][0]


@pytest.mark.skipif(BACKEND == "torch", reason="on torch each process has its own statistics")
def test_batch_norm_of_the_global_batch(one_process):
    """On JAX by itself, on TensorFlow when asked for."""
    several = {"tensorflow": "mirrored_batch_norm", "jax": "data_parallel_batch_norm"}[BACKEND]
    one, several = one_process["one_batch_norm"], one_process[several]
    for name, values in one["logs"].items():
        np.testing.assert_allclose(several["logs"][name], values, rtol=1e-5, atol=1e-5)
    for actual, expected in zip(several["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="the others are asked in test_losses_on_devices")
def test_a_loss_that_keeps_what_it_saw_is_refused_on_replicas(two_processes):
    for process in two_processes:
        assert "Received: 2 replicas. Train on one device" in process["contrast"]


jax_only = pytest.mark.skipif(BACKEND != "jax", reason="only JAX shards variables")


@jax_only
@pytest.mark.parametrize(
    ("name", "pieces"),
    [("teacher_on_two", 2), ("teacher_on_two_rows", 2), ("teacher_over_batch", 4)],
)
def test_a_device_holds_a_piece_of_the_teacher(name, pieces, one_process):
    """After training too: had the step gathered the weights, it would have handed back all."""
    piece = TEACHER_UNITS // pieces
    shards = one_process[name]["shards"]
    assert shards["teacher/wide/kernel"] == [[FEATURES, piece]]
    assert shards["teacher/wide/bias"] == [[piece]]
    assert shards["teacher/wide_again/kernel"] == [[piece, TEACHER_UNITS]]
    assert shards["teacher/wide_again/bias"] == [[TEACHER_UNITS]]


@jax_only
def test_a_sharded_teacher_exchanges_activations_only(one_process):
    """One all-reduce for its two layers; nothing is gathered, and no weight of it crosses."""
    expected = ["all-reduce", [[str(BATCH), str(TEACHER_UNITS)]]]
    assert one_process["teacher_on_two"]["collectives"] == [expected]


@jax_only
def test_a_teacher_over_the_batch_axis_is_gathered(one_process):
    """Where its layers are no larger than a batch's activations; in the step, for the step."""
    gathered = [
        sorted(map(int, shape))
        for name, shapes in one_process["teacher_over_batch"]["collectives"]
        for shape in shapes
        if name == "all-gather"
    ]
    assert [TEACHER_UNITS, TEACHER_UNITS] in gathered


@jax_only
def test_data_parallel_exchanges_the_students_gradients(one_process):
    """What the page on scaling counts: the student's gradients and a few scalars of the logs."""
    operations = one_process["data_parallel_exchange"]["collectives"]
    assert {name for name, _ in operations} == {"all-reduce"}
    shapes = [tuple(map(int, shape)) for _, group in operations for shape in group]
    student = make_distiller().student
    # XLA may hold a matrix transposed.
    gradients = sorted(tuple(sorted(shape)) for shape in shapes if shape)
    assert gradients == sorted(tuple(sorted(variable.shape)) for variable in student.weights)
    assert len([shape for shape in shapes if not shape]) < 10


@jax_only
@pytest.mark.parametrize(
    ("name", "expected"), [("own_share", {"predict"}), ("teacher_over_processes", {"save all"})]
)
def test_what_one_of_several_processes_refuses(name, expected, two_processes):
    """As the guide says; where Keras learns more, the guide can say less."""
    for process in two_processes:
        refused = process[name]["refused"]
        assert set(refused) == expected
        assert all("non-addressable" in message for message in refused.values())
