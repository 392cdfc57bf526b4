"""A cache whose writer is killed again and again: are its files those of one left alone?

    python tests/kill_cache.py
    python tests/kill_cache.py --kills 2        # as the tests do

Each writer is a process of its own, forked before any backend has started, and is killed at a
random moment of its writing. The teacher takes a moment for each batch, as teachers do.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import keras_ats
from keras_ats.teachers import CachedTeacher
from keras_ats.teachers.cache import plan

FORK = multiprocessing.get_context("fork")
warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
SAMPLES, BATCH, SIZE, CLASSES = 4000, 50, 20, 100
# So that a moment is within a file as often as between two.
plan.SHARD_ROWS = 2 * BATCH
KERNEL = np.random.default_rng(0).normal(size=(SIZE, CLASSES)).astype("float32")
X = np.random.default_rng(1).normal(size=(SAMPLES, SIZE)).astype("float32")


def teacher(x):
    time.sleep(0.005)
    return x @ KERNEL


def write(path):
    keras_ats.cache_teacher(teacher, X, path, name="matrix", batch_size=BATCH, verbose=0)


def killed(path, seconds):
    """Whether a writer was killed after so many seconds of writing; false where it was done."""
    process = FORK.Process(target=write, args=(path,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise SystemExit(f"A writer ended with {process.exitcode}.")
    return process.exitcode != 0


def content(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*")}


def main():
    """Counts kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        start = time.perf_counter()
        killed(alone, None)
        whole = time.perf_counter() - start
        expected, done, caches, within = content(alone), 0, 0, 0
        while done < kills:
            path = Path(folder) / f"killed_{caches}"
            caches += 1
            # Several kills to a cache, until one comes too late.
            while done < kills and killed(path, whole * rng.uniform(0.02, 0.6)):
                done += 1
                within += bool(list(path.rglob("partial-*")))
            killed(path, None)
            if content(path) != expected:
                raise SystemExit(f"{path} differs from the cache that was left alone.")
            np.testing.assert_array_equal(
                CachedTeacher(path).logits(), CachedTeacher(alone).logits()
            )
        print(
            f"{kills} kills, {within} of them within a file, {caches} caches of {len(expected)} "
            "files: all as the one left alone, bit for bit"
        )


if __name__ == "__main__":
    main()
