"""Training runs that are killed again and again: do they end as one that was left alone?

    KERAS_BACKEND=jax python tests/kill_and_resume.py
    KERAS_BACKEND=jax python tests/kill_and_resume.py --random 0 --in-save 2     # as the tests do

Three runs: killed at random moments, saved after each epoch; the same, saved within epochs; killed
at exact places within a save. Each goes on until the next kill, and finally to its end. By default
that makes 20 kills at random moments and 10 within a save.

Every run is a process of its own, forked before the backend has started: it is the import that
takes long.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import h5py
import keras
import numpy as np

import keras_ats
from keras_ats import files

PLACES = ("array", "written", "renamed", "deleted")  # in a save, in this order
MOST_BATCHES = 16  # before a kill at random, and then a moment
LONGEST_MOMENT = 0.3  # seconds: a few batches, or a save
FEATURES, CLASSES, BATCHES, BATCH_SIZE = 6, 3, 4, 8
FORK = multiprocessing.get_context("fork")
# JAX warns of forks: its threads would not come along. It has none yet.
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)


# --- The run.


class Jitter(keras.callbacks.Callback):
    """What a run may depend on beside its weights: an epoch's changes, and global generators."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kd_weight.assign(0.2 + 0.1 * (epoch % 5))
        if epoch == 1:  # Stays so, which a later process must know.
            self.model.kd_loss.gradient_factor.assign(-0.5)
            self.model.optimizer.learning_rate.assign(0.002)


class Tell(keras.callbacks.Callback):
    """Tells another process that so many batches have been trained on."""

    def __init__(self, event, batches):
        super().__init__()
        self.event, self.left = event, batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left <= 0:
            self.event.set()


class Batches(keras.utils.PyDataset):
    """Batches that draw from NumPy's global generator; not on TensorFlow, which reads ahead."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(BATCHES * BATCH_SIZE, FEATURES)).astype("float32")
        self.y = rng.integers(0, CLASSES, len(self.x))

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        part = slice(index * BATCH_SIZE, (index + 1) * BATCH_SIZE)
        x = self.x[part]
        if keras.backend.backend() != "tensorflow":
            x = x + 0.1 * np.random.normal(size=x.shape).astype("float32")  # noqa: NPY002
        return x, self.y[part]


def build():
    """A compiled distiller with dropout, two slots per weight and a temperature that learns."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    teacher = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])
    student = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(8), layers.Dropout(0.3), layers.Dense(CLASSES)]
    )
    distiller = keras_ats.Distiller(teacher, student)
    loss = keras_ats.losses.CurriculumTemperatureKD()
    distiller.compile(keras.optimizers.Adam(0.01), kd_loss=loss, metrics=["accuracy"])
    return distiller


def train(folder, epochs, save_freq="epoch", *, told=(), kill=()):
    """Runs to the end, from the beginning or from where another process was stopped."""
    folder.mkdir(exist_ok=True)
    if kill:
        kill_at(*kill)
    distiller = build()
    backup = keras_ats.callbacks.Backup(folder / "backup", save_freq=save_freq)
    tell = [Tell(*told)] if told else []
    history = distiller.fit(
        Batches(),
        epochs=epochs,
        shuffle=False,
        callbacks=[Jitter(), backup, *tell],
        verbose=0,
    ).history
    np.savez(folder / "end.npz", *state(distiller), **last_logs(history))


def state(distiller):
    variables = [*distiller.variables, *distiller.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def last_logs(history):
    return {name: values[-1] for name, values in history.items()}


# --- Its end.


def kill_at(place, count):
    """Lets this process be killed when it comes to `place` in a save for the `count`th time."""

    def now():
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(function, *, before):
        left = [count]

        def instead(*arguments, **options):
            left[0] -= 1
            if before and not left[0]:
                now()
            result = function(*arguments, **options)
            if not left[0]:
                now()
            return result

        return instead

    if place == "array":  # The file is half written, and what there is of it is on disk.
        create = h5py.Group.create_dataset

        def flushed(group, *arguments, **options):
            dataset = create(group, *arguments, **options)
            if len(arrays) == count:
                group.file.flush()
                now()
            arrays.append(None)
            return dataset

        arrays = []
        h5py.Group.create_dataset = flushed
    elif place == "written":
        files.put_in_place = counted(files.put_in_place, before=True)
    elif place == "renamed":
        files.put_in_place = counted(files.put_in_place, before=False)
    else:
        Path.unlink = counted(Path.unlink, before=False)


def start(run, *, kill=(), batches=0, seconds=None):
    """Lets the run go on in a new process; whether it was killed, by itself or from here.

    Args:
        run: Arguments of `train`.
        kill: Arguments of `kill_at`.
        batches: After so many it is killed from here, where `seconds` is given,
        seconds: and so much later.
    """
    reached = FORK.Event()
    options = {"told": (reached, batches), "kill": kill}
    process = FORK.Process(target=train, args=run, kwargs=options)
    process.start()
    while seconds is not None and process.is_alive() and not reached.wait(0.01):
        pass
    process.join(seconds)
    process.kill()  # Does nothing to one that has ended.
    process.join()
    # A message of the process itself stands above.
    if process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{run}: a process ended with {process.exitcode}.")
    return process.exitcode != 0


def check_same_end(folder, undisturbed):
    ends = [np.load(folder / "end.npz") for folder in (folder, undisturbed)]
    for name in ends[1].files:
        np.testing.assert_array_equal(ends[0][name], ends[1][name], err_msg=name)


def main():
    """Counts kills, for one backend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=10, help="kills at random, in each of two")
    parser.add_argument("--in-save", type=int, default=10, help="kills within a save")
    parser.add_argument("--epochs", type=int, default=60)
    chosen = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / "alone"
        start((alone, chosen.epochs))
        for name, save_freq, kills in (
            ("at random, saved after epochs", "epoch", chosen.random),
            ("at random, saved within epochs", 3, chosen.random),
            ("within a save", "epoch", chosen.in_save),
        ):
            folder = Path(place) / name.replace(" ", "-")
            run = (folder, chosen.epochs, save_freq)
            if not kills:
                continue
            for number in range(kills):
                if "within a save" in name:
                    where = PLACES[number % len(PLACES)]
                    # An epoch has about 30 arrays.
                    killed = start(run, kill=(where, rng.randint(1, 90 if where == "array" else 3)))
                else:
                    batches, moment = rng.randint(1, MOST_BATCHES), LONGEST_MOMENT * rng.random()
                    killed = start(run, batches=batches, seconds=moment)
                if not killed:
                    raise SystemExit(f"{name}: finished after {number} kills. Give more --epochs.")
            resumed_from = keras_ats.callbacks.Backup(folder / "backup").epoch
            start(run)
            check_same_end(folder, alone)
            print(
                f"{name}: {kills} kills, the last went on after epoch {resumed_from}: same end",
                flush=True,
            )


if __name__ == "__main__":
    main()
