"""examples/cifar.py on a tiny CIFAR-10: every command, and a run that is killed twice."""

import json
import shutil
import signal
import sys

import keras
import numpy as np
import pytest
from backends import on_one_backend
from data_files import write_tfds
from processes import COMPILE_FAST, ROOT, run_together

import keras_ats

sys.path.insert(0, str(ROOT / "examples"))

from cifar_experiment import (
    commands,
    export,
    options,
    report,
    training,
)

BACKEND = keras.backend.backend()
EPOCHS = 8
# Not conftest.py's number of devices, which is not the one that --devices asks for.
ENVIRONMENT = {"COLUMNS": "200", "XLA_FLAGS": COMPILE_FAST}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder of the data, and of all runs."""
    folder = tmp_path_factory.mktemp("cifar")
    labels = list(range(10))
    write_tfds("cifar10", folder / "data", {"train": labels * 6, "test": labels * 2})
    return folder


def command(place, *arguments):
    given = ["--data-dir", place / "data", "--runs", place / "runs", "--batch-size", 20]
    return [ROOT / "examples" / "cifar.py", *arguments, *given]


def run(place, *arguments):
    """What a command prints."""
    (printed,) = run_together([command(place, *arguments)], folder=place, **ENVIRONMENT)
    return printed


def distill(place, name, **changes):
    """Arguments of a distillation into the folder `name`."""
    chosen = {
        "teacher": place / "teacher" / "model.keras",
        "student": "resnet8",
        "epochs": EPOCHS,
        "run": place / name,
        **changes,
    }
    return ["distill", *(part for key, value in chosen.items() for part in (f"--{key}", value))]


# Several commands in one process, which imports and compiles once for them.
ONE_AFTER_THE_OTHER = """
import json
import os
import runpy
import sys

for sys.argv in json.loads(sys.argv[1]):
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def trained(place):
    """The folder of a teacher's run and that of a student's."""
    options = ["teacher", "--model", "resnet8", "--epochs", 1, "--run", place / "teacher"]
    each = [command(place, *options), command(place, *distill(place, "undisturbed"))]
    arguments = json.dumps([[str(part) for part in one] for one in each])
    run_together([["-c", ONE_AFTER_THE_OTHER, arguments]], folder=place, **ENVIRONMENT)
    return place / "teacher", place / "undisturbed"


@pytest.fixture(scope="module")
def teacher(trained):
    return trained[0] / "model.keras"


@pytest.fixture(scope="module")
def undisturbed(trained):
    return trained[1]


around_training = on_one_backend("what commands do before and after Keras trains")


def weights(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


def history(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    # The checksum is over the seconds too.
    return [{k: v for k, v in line.items() if k not in ("seconds", "checksum")} for line in lines]


def test_a_run_folder_tells_all(undisturbed):
    described = json.loads((undisturbed / "config.json").read_text())
    assert described["config"]["temperatures"] == [4.0, 2.0]
    assert described["config"]["backend"] == BACKEND
    assert described["versions"]["keras"] == keras.__version__
    logs = history(undisturbed)
    assert len(logs) == EPOCHS
    assert {"loss", "student_loss", "kd_loss", "accuracy", "learning_rate"} <= logs[0].keys()
    result = json.loads((undisturbed / "result.json").read_text())
    assert result["epochs"] == EPOCHS
    assert (result["train_images"], result["test_images"]) == (60, 20)
    assert result["parameters"] == 78_042 + 2 * (16 * 3 + 32 * 3 + 64 * 3)  # BN statistics
    # The last epoch's network is what is kept and what was tested: a multiple of 1 / 20.
    assert result["test_accuracy"] * 20 == pytest.approx(round(result["test_accuracy"] * 20))


def test_the_student_is_a_plain_model_in_logits_form(undisturbed):
    student = keras.saving.load_model(undisturbed / "model.keras")
    assert type(student).__module__.startswith("keras.")
    assert student.count_params() < 90_000
    logits = student.predict(np.zeros((2, 32, 32, 3), "float32"), verbose=0)
    assert np.abs(logits.sum(axis=-1) - 1).max() > 1e-3


@on_one_backend("callbacks.Backup is killed on each; here it is the example that goes on")
def test_killed_twice_ends_at_the_same_weights(place, undisturbed):
    folder = place / "killed"
    killed(place, epochs_done=3, where="batch")
    assert backups(folder) == ["epoch-00002", "epoch-00003"]
    killed(place, epochs_done=5, where="checkpoint")
    assert backups(folder) == ["epoch-00004", "epoch-00005", "partial.wei"]
    assert not (folder / "result.json").exists()
    # What a bad disk could do besides, and a power cut.
    newest = max((folder / "backup").glob("epoch-00005*"))
    newest.write_bytes(newest.read_bytes()[:1000])
    with (folder / "history.jsonl").open("a") as stream:
        stream.write('{"loss": 1')
    printed = run(place, *distill(place, "killed"))
    assert "going on after epoch 4 of 8" in printed
    check_same(folder, undisturbed)


@around_training
def test_killed_when_all_was_trained_and_nothing_tested(place, undisturbed):
    folder = shutil.copytree(undisturbed, place / "untested")
    (folder / "result.json").unlink()
    (folder / "model.keras").unlink()
    run(place, *distill(place, "untested"))
    check_same(folder, undisturbed)


def backups(folder):
    return sorted(path.name[:11] for path in (folder / "backup").iterdir())


def check_same(folder, undisturbed):
    for one, other in zip(weights(folder), weights(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history(folder) == history(undisturbed)
    results = [json.loads((run / "result.json").read_text()) for run in (folder, undisturbed)]
    for result in results:  # A .keras file holds its date.
        for name in ("seconds", "model_checksum", "checksum"):
            del result[name]
    assert results[0] == results[1]
    assert backups(folder) == ["epoch-00007", "epoch-00008"]


# Runs a script that gets SIGKILL at an exact place: a test that sent it from outside would depend
# on how fast the machine is.
KILLED = """
import itertools
import os
import runpy
import signal
import sys

epochs_done, where, script = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(script))

import h5py
from cifar_experiment.run_folder import SaveHistory

create_dataset, save_history = h5py.Group.create_dataset, SaveHistory.on_epoch_end
arrays = itertools.count(1)


def kill_in_epoch(callback, batch, logs=None):
    if len(callback.history) == epochs_done and batch == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def kill_in_checkpoint(callback, epoch, logs=None):
    save_history(callback, epoch, logs)
    if epoch == epochs_done:  # Counted from 0: the backup comes next.
        h5py.Group.create_dataset = kill_at_tenth_array


def kill_at_tenth_array(group, *arguments, **options):
    if next(arrays) == 10:
        group.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return create_dataset(group, *arguments, **options)


if where == "batch":
    SaveHistory.on_train_batch_end = kill_in_epoch
else:
    SaveHistory.on_epoch_end = kill_in_checkpoint
runpy.run_path(script, run_name="__main__")
"""


def killed(place, *, epochs_done, where):
    """Starts the distillation, which dies after so many epochs, in mid-epoch or mid-checkpoint."""
    script, *arguments = command(place, *distill(place, "killed"))
    python = ["-c", KILLED, epochs_done, where, script, *arguments]
    with pytest.raises(AssertionError, match=rf"Exit codes \[-{signal.SIGKILL.value}\]"):
        run_together([python], folder=place, **ENVIRONMENT)


def test_a_finished_run_is_not_repeated(place, undisturbed, capsys):
    before = (undisturbed / "model.keras").stat().st_mtime_ns
    # With no data to train on.
    arguments = [str(part) for part in distill(place, "undisturbed")]
    arguments += ["--data-dir", "nowhere", "--batch-size", "20"]
    commands.run(options.parse(arguments, ""))
    assert "test accuracy" in capsys.readouterr().out
    assert (undisturbed / "model.keras").stat().st_mtime_ns == before


@around_training
def test_other_options_in_the_same_folder(place, undisturbed):
    with pytest.raises(AssertionError) as failure:
        run(place, *distill(place, "undisturbed", epochs=9))
    complaint = str(failure.value)
    assert "Exit codes [1]" in complaint
    assert "epochs: 8 before, 9 now" in complaint
    assert "Traceback" not in complaint


@around_training
def test_sweep_chooses_on_validation_images(place, teacher):
    printed = run(
        place,
        *["sweep", "--teacher", teacher, "--student", "resnet8", "--epochs", 1],
        *["--correct-temperatures", 4, "--wrong-temperatures", 2, 3],
        *["--validation-fraction", 0.5],
    )
    assert "Run 2 of 2" in printed
    assert "--correct-temperature 4 --wrong-temperature" in printed
    runs = report.find_runs([place / "runs"])
    assert [one["config"]["temperatures"] for one in runs] == [[4.0, 2.0], [4.0, 3.0]]
    assert all(one["result"]["validation_accuracy"] is not None for one in runs)
    assert all(one["result"]["train_images"] == 30 for one in runs)


@pytest.mark.skipif(BACKEND == "torch", reason="refused there; examples/devices/ddp.py shows how")
def test_two_devices_in_mixed_precision(place):
    arguments = ["teacher", "--model", "resnet8", "--epochs", 1, "--devices", 2]
    run(place, *arguments, "--mixed-precision", "--run", place / "two")
    assert json.loads((place / "two" / "result.json").read_text())["epochs"] == 1
    network = keras.saving.load_model(place / "two" / "model.keras")
    assert network.layers[1].compute_dtype == "bfloat16"
    arguments = ["export", "--model", str(place / "two" / "model.keras"), "--formats"]
    with pytest.raises(ValueError, match="computes in bfloat16"):
        export.run(options.parse([*arguments, "saved_model"], ""))


# Far more steps than JAX queues, on fewer threads than it needs for that.
FAST_STEPS = """
import jax
import numpy as np
from cifar_experiment.training import divide_cpu
from jax.sharding import NamedSharding, PartitionSpec

divide_cpu(4)
mesh = jax.sharding.Mesh(np.reshape(jax.devices(), (2, 2)), ("batch", "model"))
split = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
batch = jax.device_put(np.ones((64, 1024), "float32"), split("batch", "model"))
kernel = jax.device_put(np.ones((1024, 1024), "float32"), split("model", None))
step = jax.jit(lambda kernel: kernel - jax.grad(lambda kernel: (batch @ kernel).var())(kernel))
for _ in range(400):
    kernel = step(kernel)
print(kernel.sum())
"""


@pytest.mark.skipif(BACKEND != "jax", reason="XLA's threads")
def test_a_divided_cpu_does_not_wait_for_ever():
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}", "NPROC": "1"}
    run_together([["-c", FAST_STEPS]], **environment)


@pytest.mark.skipif(BACKEND != "jax", reason="the others divide unevenly")
def test_devices_that_cannot_share(place):
    with pytest.raises(ValueError, match="20 samples of cifar10/test must divide evenly"):
        training.check_shares(keras_ats.data.load("cifar10", place / "data"), 3)


def test_report(place, undisturbed, capsys):
    arguments = ["report", str(undisturbed), str(place / "teacher"), "--json", str(place / "r")]
    report.run(options.parse(arguments, ""))
    written = json.loads((place / "r").read_text())
    assert [one["versions"]["keras"] for one in written["runs"]] == [keras.__version__] * 2
    rows = written["rows"]
    assert [row["method"] for row in rows] == ["labels alone", "ats"]
    result = json.loads((undisturbed / "result.json").read_text())
    assert rows[1]["accuracies"] == pytest.approx([100 * result["test_accuracy"]])
    assert rows[1]["gain"] == ""  # The network alone had another number of epochs.
    assert "4, 2" in capsys.readouterr().out


def test_report_over_seeds():
    def one(seed, accuracy, method, **changes):
        config = {"network": "vgg8", "method": method, "seed": seed, "dataset": "cifar10"}
        config |= {"epochs": 3, **changes}
        return {"config": config, "result": {"test_accuracy": accuracy, "train_images": 10}}

    def distilled(seed, accuracy, **changes):
        config = {"teacher": f"resnet20-seed{seed}", "teacher_file": str(seed), **changes}
        return one(seed, accuracy, "ats", temperatures=[4.0, 2.0], **config)

    alone = [one(0, 0.5, "labels alone"), one(2, 0.5, "labels alone"), one(1, 0.6, "labels alone")]
    # Another network, and another schedule, are no baselines of these.
    alone += [one(0, 0.9, "labels alone", network="resnet8"), one(0, 0.9, "labels alone", epochs=4)]
    runs = [*alone, distilled(0, 0.5), distilled(2, 0.7), distilled(1, 0.6)]
    (row,) = (row for row in report.summarise(runs) if row["method"] == "ats")
    assert row["accuracy"] == "60.00 ± 10.00"
    assert row["accuracies"] == pytest.approx([50, 60, 70])
    assert row["gains"] == pytest.approx([0, 0, 20])
    assert row["gain"] == "+6.67 ± 11.55"
    assert row["seeds"] == 3
    # Without a baseline for each seed there is no mean gain.
    (row,) = (row for row in report.summarise([*runs, distilled(3, 0.6)]) if row["seeds"] == 4)
    assert row["gain"] == ""
    (row,) = report.summarise([distilled(0, 0.5), distilled(1, 0.6, teacher="resnet20-seed7")])
    assert row["seeds"] == 2


FORMATS = {
    "tensorflow": ("saved_model", "onnx", "litert"),
    "jax": ("saved_model",),
    "torch": ("onnx",),
}


@pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
@pytest.mark.parametrize("form", FORMATS[BACKEND])
def test_export(form, undisturbed, tmp_path, capsys):
    arguments = ["export", "--model", str(undisturbed / "model.keras"), "--output", str(tmp_path)]
    export.run(options.parse([*arguments, "--formats", form], ""))
    assert "largest difference from Keras's logits" in capsys.readouterr().out
    student = keras.saving.load_model(undisturbed / "model.keras")
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype("float32")
    expected = student.predict(images, verbose=0)
    np.testing.assert_allclose(run_exported(form, tmp_path, images), expected, atol=1e-4)


def run_exported(form, folder, images):
    """What the runtime of a format computes from the file, at another batch size."""
    if form == "saved_model":
        import tensorflow as tf

        loaded = tf.saved_model.load(folder / "model_saved_model")
        return loaded.serve(images).numpy()
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"))
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(returned["index"])


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow exports every format")
def test_export_that_keras_cannot(undisturbed):
    form = {"jax": "litert", "torch": "saved_model"}[BACKEND]
    arguments = ["export", "--model", str(undisturbed / "model.keras"), "--formats", form]
    with pytest.raises(ValueError, match="--backend tensorflow"):
        export.run(options.parse(arguments, ""))


def test_published_schedule():
    rates = [training.learning_rate(epoch, 240, 0.05) for epoch in range(240)]
    assert rates[:5] == pytest.approx([0.05 * step / 6 for step in range(1, 6)])
    assert rates[5:150] == pytest.approx([0.05] * 145)
    assert rates[150:180] == pytest.approx([0.005] * 30)
    assert rates[180:210] == pytest.approx([0.0005] * 30)
    assert rates[210:] == pytest.approx([0.00005] * 30)


def test_scaled_schedule():
    rates = [training.learning_rate(epoch, 16, 1.0) for epoch in range(16)]
    assert rates == pytest.approx([1.0] * 10 + [0.1] * 2 + [0.01] * 2 + [0.001] * 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["teacher", "--model", "resnet8", "--epochs", "0"], "--epochs must be at least 1"),
        (["export", "--model", "nowhere.keras"], "there is no file nowhere.keras"),
        (
            ["teacher", "--model", "vgg8", "--devices", "3", "--backend", "jax"],
            "--batch-size must be a multiple",
        ),
        (
            ["teacher", "--model", "vgg8", "--devices", "2", "--backend", "torch"],
            "examples/devices/ddp.py",
        ),
    ],
)
def test_wrong_arguments(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        options.parse(arguments, "")
    assert complaint in capsys.readouterr().err
