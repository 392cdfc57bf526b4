"""Lets a teacher speak once, and keeps what it says."""

import dataclasses
import errno
import itertools
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ats.checks import as_integer, one_of
from keras_ats.files import local_path
from keras_ats.teachers.cache import manifest
from keras_ats.teachers.cache.cached_teacher import CachedTeacher
from keras_ats.teachers.cache.plan import Plan, batches_of, plan_of
from keras_ats.teachers.cache.shards import Shards
from keras_ats.teachers.cache.sources.source import Chosen
from keras_ats.teachers.cache.verified import choose, verify_rows
from keras_ats.types import Config
from keras_ats.views.read import FromLogits

_VERIFIED = 64


def cache_teacher(
    teacher: Any,
    data: Any,
    path: Any,
    *,
    views: int | None = None,
    augment: bool | None = None,
    padding: int | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    seed: int = 0,
    ids: Any = None,
    top_k: int | None = None,
    dtype: str = "float16",
    classes: int | None = None,
    name: str | None = None,
    from_logits: FromLogits = None,
    batch_size: int = 128,
    worker: tuple[int, int] = (0, 1),
    verbose: int | str = "auto",
) -> CachedTeacher:
    r"""Runs a teacher over data once and keeps its logits, for any number of students.

    The teacher's forward pass is most of what distillation costs, in each epoch and in each run of
    a sweep. Kept are logits, not probabilities, so that temperatures can be chosen afterwards, of
    each sample in `views` views: epoch e trains on view e modulo views. View v of sample i is a
    pure function of (seed, i, v), so that student and teacher see the same picture in any order.

    A call that was stopped, at any moment, is taken up where it was; one with more `views` appends
    them; one on a cache that is there opens it. What does not match is refused, with what differs.

    Args:
        teacher: A built `keras.Model`, such as an `Ensemble`; a `LiveTeacher`; or any function from
            a batch of inputs, as NumPy arrays, to logits `(batch, ..., classes)`: ONNX Runtime, a
            torch module, `decision_function` of scikit-learn, a service.
        data: `keras_ats.data.Samples`; arrays `x` or `(x, y)`; a batched `tf.data.Dataset` of
            `(x, y, ids)`, or of `(x, y)` in one order, without augmentation; a map-style torch
            `Dataset` or a `keras.utils.PyDataset` that may augment with the generators of `random`,
            `numpy.random` and `torch`.
        path: The folder to write.
        views: How many views are kept. None (default) means 8 where the data is augmented, else 1.
        augment: For `Samples`: whether views are augmented. None (default) means True.
        padding: For `Samples`: as for `Samples.batches`.
        mixup: For `Samples`: likewise. The teacher is shown the mixed picture.
        cutmix: For `Samples`: likewise.
        seed: Of the views, at least 0. Defaults to 0.
        ids: For arrays: `(n,)`, integers that tell the samples apart. Defaults to their places.
        top_k: For many classes: how many of the largest logits are kept, besides those of the
            labels and eight numbers for the sum of the others. None (default) keeps all. KD, ATS
            and DKD learn from these, with the others as one class.
        dtype: Of the differences to a row's maximum: `"float16"` (default), whose KL divergence to
            the live teacher is at most 1e-6 at any temperature for up to 1,000 classes, or
            `"float32"`. The maximum is float32.
        classes: Keeps the first so many, for a teacher whose vocabulary is padded beyond the
            student's. None (default) keeps all.
        name: Tells the teacher from others in the manifest; a function needs one.
        from_logits: As for `Distiller(teacher_from_logits=...)`.
        batch_size: Of the teacher's batches. Defaults to 128.
        worker: `(index, count)`: which share of the files this process writes, of so many that fill
            one cache at once. Defaults to `(0, 1)`, all of them.
        verbose: 0 for no progress bar; 1 or `"auto"` (default) for one.

    Returns:
        The cache, which has been compared with the teacher on 64 samples. As one of several workers
        perhaps not whole yet: `is_whole` says so.

    Raises:
        TypeError: If an argument is of the wrong type, or data of no known kind.
        ValueError: If something does not fit, the data is random and has no ids, or another cache
            is at `path`.
        OSError: If there is no room on the disk; what is whole stays.

    Example:

    ```python
    x = np.random.randint(0, 256, (32, 8, 8, 3), "uint8")
    samples = keras_ats.data.Samples.from_arrays(x, np.arange(32) % 4)
    teacher, student = (
        keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
        for _ in range(2)
    )
    cache = keras_ats.cache_teacher(teacher, samples, "cache", views=2, verbose=0)
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
    distiller.fit(cache.batches(8, shuffle=True), steps_per_epoch=cache.steps(8), verbose=0)
    ```
    """
    folder = local_path(path, "path")
    index, count = _as_worker(worker)
    if isinstance(verbose, bool) or not isinstance(verbose, int) or verbose not in (0, 1):
        one_of(verbose, "verbose", ("auto", "0", "1"))
    plan = plan_of(
        teacher,
        data,
        views=views,
        seed=seed,
        ids=ids,
        top_k=top_k,
        dtype=dtype,
        classes=classes,
        name=name,
        from_logits=from_logits,
        batch_size=batch_size,
        options={"augment": augment, "padding": padding, "mixup": mixup, "cutmix": cutmix},
    )
    plan, of = _begun(folder, plan, index)
    shards = Shards(folder, manifest.identity(of), plan.record, len(plan.source), plan.shard_size)
    shards.check(plan.views)
    _verify(plan, shards)
    missing = shards.missing(plan.views)
    own = [
        (view, shard) for view, shard in missing if (view * shards.number + shard) % count == index
    ]
    _check_room(folder, shards, own)
    _fill(plan, shards, own, 0 if verbose == 0 else 1)
    if own:
        _verify(plan, shards)
    return CachedTeacher.of_source(folder, plan.source, plan.views)


def _begun(folder: Path, plan: Plan, worker: int) -> tuple[Plan, Config]:
    """Writes the manifest, or compares with the one that is there."""
    given = plan.manifest
    if (folder / manifest.FILE).exists():
        found = manifest.read(folder)
        # How rows are parted among files is decided once.
        layout = found["layout"]
        sizes = {name: layout[name] for name in ("batch_size", "shard_size")}
        plan = dataclasses.replace(plan, **sizes)
        given = {**plan.manifest, "layout": layout}
        manifest.refuse(folder, manifest.differences(found, given))
        if found["views"] >= plan.views:
            return plan, found
        given = {**found, "views": plan.views}
    else:
        manifest.write_array(folder, "ids", plan.source.ids, worker)
        if plan.source.fingerprints is not None:
            manifest.write_array(folder, "fingerprints", plan.source.fingerprints, worker)
    manifest.write(folder, given, worker)
    return plan, given


def _fill(plan: Plan, shards: Shards, own: list[tuple[int, int]], verbose: int) -> None:
    """Writes files, each when its rows are there."""
    if not own:
        return
    size = plan.batch_size
    # One pipeline for all of them: making one takes longer than many a batch.
    chosen = [list(batches_of(view, *shards.part(shard), size)) for view, shard in own]
    shown = plan.source.batches(itertools.chain(*chosen))
    total = sum(len(one.places) for batches in chosen for one in batches)
    bar = keras.utils.Progbar(total, verbose=verbose, unit_name="sample")
    done = 0
    for (view, shard), batches in zip(own, chosen, strict=True):
        rows = []
        for one in batches:
            rows.append(plan.rows(next(shown)))
            done += len(one.places)
            bar.update(done)
        shards.write(view, shard, np.concatenate(rows))


def _verify(plan: Plan, shards: Shards) -> None:
    """Lets the teacher say again what is kept already."""
    missing = set(shards.missing(plan.views))
    chosen = choose(len(plan.source), plan.views, _VERIFIED, seed=0)
    there = [
        (view, place // shards.size) not in missing
        for view, place in zip(*map(np.ndarray.tolist, chosen), strict=True)
    ]
    chosen = Chosen(chosen.views[there], chosen.places[there])
    verify_rows(shards.read, plan.formats, plan.source, plan.spoken, chosen)


def _check_room(folder: Path, shards: Shards, own: list[tuple[int, int]]) -> None:
    """Raises before anything is computed for which there is no room."""
    needed = sum(
        (shards.part(shard)[1] - shards.part(shard)[0]) * shards.record.itemsize for _, shard in own
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        failure = OSError(
            f"There is no room for the cache at {folder}. Received: {free / 1e9:.2f} GB free. "
            f"Expected: {needed / 1e9:.2f} GB more. Free some, take another disk, fewer views or "
            "top_k; what is there already stays."
        )
        failure.errno = errno.ENOSPC
        raise failure


def _as_worker(worker: Any) -> tuple[int, int]:
    if not isinstance(worker, tuple | list) or len(worker) != 2:
        raise TypeError(
            f"`worker` must be (index, count). Received: worker={worker!r}. Expected: such as "
            "(0, 4), the first of four."
        )
    index, count = as_integer(worker[0], "worker", 0), as_integer(worker[1], "worker")
    if index >= count:
        raise ValueError(
            f"`worker` must be (index, count) with an index below the count. Received: "
            f"worker={worker!r}."
        )
    return index, count
