"""A teacher that has spoken: its logits from files, no model in memory."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_ats.checks import as_integer
from keras_ats.data.batches.counting import number_of_batches
from keras_ats.data.samples import Samples
from keras_ats.files import local_path
from keras_ats.record import Needs, Outputs, Shapes, TopKLogits
from keras_ats.teachers.cache import attached, manifest
from keras_ats.teachers.cache.imported import KIND, write_arrays
from keras_ats.teachers.cache.plan import data_config
from keras_ats.teachers.cache.riders import Riders
from keras_ats.teachers.cache.rows import Array, RowFormat, record_of
from keras_ats.teachers.cache.shards import Shards
from keras_ats.teachers.cache.sources.kinds import kind_of, source_of
from keras_ats.teachers.cache.sources.source import Source
from keras_ats.teachers.cache.spoken import Spoken
from keras_ats.teachers.cache.verified import choose, verify_rows
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Config, Nested, Tensor
from keras_ats.views.read import FromLogits


@keras.saving.register_keras_serializable(package="keras_ats")
class CachedTeacher(Teacher):
    """What a teacher said, read from files: its forward pass is paid for once.

    Given to `Distiller` in the teacher's place, it teaches what the live teacher would, at any
    temperature: logits are kept, not probabilities. What is trained on must come from the cache,
    `cache.batches(...)` or `cache.attach(data)`, so that each sample brings along what was said of
    this very view of it. `evaluate` and `predict` take plain data.

    Args:
        path: The folder that `cache_teacher` has written.
        data: What it was made of, which is compared with the manifest; needed for `batches`, and
            what `attach` attaches to otherwise. Defaults to None.
        views: How many of its views are used, the first ones; None (default) for all.

    Raises:
        FileNotFoundError: If there is no cache at `path`.
        ValueError: If it is not whole, damaged, edited, or not of this data.

    Example:

    ```python
    x, y = np.random.rand(32, 8).astype("float32"), np.random.randint(0, 3, 32)
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    keras_ats.cache_teacher(teacher, (x, y), "cache", verbose=0)

    cache = keras_ats.teachers.CachedTeacher("cache")
    distiller = keras_ats.Distiller(cache, student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
    distiller.fit(*cache.attach((x, y)), verbose=0)
    ```
    """

    variables = ()
    supports_jit = True

    def __init__(self, path: Any, data: Any = None, *, views: int | None = None) -> None:
        self._open(local_path(path, "path"), views)
        self._require_whole()
        self._shards.check(self.views)
        self.source: Source | None = None
        if data is not None:
            self._use(self._source(data))

    def _open(self, path: Path, views: int | None) -> None:
        self.path = path
        self.manifest = manifest.read(path)
        stored = self.manifest["views"]
        self.views = stored if views is None else as_integer(views, "views")
        if self.views > stored:
            raise ValueError(
                f"The cache at {path} has fewer views. Received: views={views}. Expected: at most "
                f"{stored}. Append some: cache_teacher(..., views={views})."
            )
        self.formats = {
            name: RowFormat.from_config(one) for name, one in self.manifest["rows"].items()
        }
        self.ids = manifest.read_array(path, "ids", self.manifest)
        self._fingerprints = (
            manifest.read_array(path, "fingerprints", self.manifest)
            if self.manifest["data"]["fingerprints"]
            else None
        )
        self._shards = shards_of(path, self.manifest)

    @classmethod
    def of_source(cls, path: Path, source: Source, views: int) -> Self:
        """Opens a cache that has been checked, and that other workers may still be writing."""
        cache = cls.__new__(cls)
        cache._open(path, views)
        cache.source = source
        return cache

    @classmethod
    def from_arrays(
        cls,
        logits: Any,
        ids: Any = None,
        *,
        path: Any = None,
        name: str = "arrays",
        dtype: str = "float16",
    ) -> "CachedTeacher":
        """Makes a cache of logits that you have already: one view, the one they were made of.

        What they were made of is not known, so it is by the ids alone that they find their samples:
        see that the data is in their order, and not augmented.

        Args:
            logits: Float array of shape `(n, ..., classes)`, or a dict of them by output name.
            ids: `(n,)`, integers that tell the samples apart, such as `Samples.ids`. None
                (default) numbers them.
            path: The folder to write; None (default) for one that lasts as long as the cache.
            name: Tells the teacher from others.
            dtype: As for `cache_teacher`.

        Returns:
            The cache.

        Raises:
            ValueError: If these are no logits, ids do not fit, or another cache is there.

        Example:

        ```python
        logits = np.random.normal(size=(32, 3)).astype("float32")
        cache = keras_ats.teachers.CachedTeacher.from_arrays(logits)
        ```
        """
        if path is not None:
            folder = local_path(path, "path")
            write_arrays(logits, ids, folder, name, dtype)
            return cls(folder)
        temporary = tempfile.mkdtemp(prefix="keras_ats_")
        try:
            write_arrays(logits, ids, Path(temporary), name, dtype)
            cache = cls(temporary)
        except BaseException:
            shutil.rmtree(temporary)
            raise
        weakref.finalize(cache, shutil.rmtree, temporary, ignore_errors=True)
        return cache

    @classmethod
    def all_in(cls, folder: Any, data: Any = None) -> "dict[str, CachedTeacher]":
        """Opens all caches of a folder, such as those of a teacher's checkpoints.

        Args:
            folder: Each cache is a folder in it.
            data: As for the class.

        Returns:
            Caches by the names of their folders, in order.
        """
        found = sorted(local_path(folder, "folder").glob(f"*/{manifest.FILE}"))
        return {file.parent.name: cls(file.parent, data) for file in found}

    @property
    def output_names(self) -> list[str]:  # type: ignore[override]
        """Names of the teacher's outputs."""
        return list(self.formats)

    @property
    def shapes(self) -> Shapes:  # type: ignore[override]
        """Shapes of the teacher's logits."""
        return Shapes(
            self._one_or_all(
                {name: (None, *one.positions, one.classes) for name, one in self.formats.items()}
            )
        )

    @property
    def is_whole(self) -> bool:
        """Whether all files are there; other workers may still be writing."""
        return not self._shards.missing(self.views)

    @property
    def bytes(self) -> int:
        """Size of the files of all views that are used."""
        return self.views * self._shards.bytes_of_a_view

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"CachedTeacher('{self.path}': {len(self)} samples, {self.views} views, "
            f"{self.bytes / 1e6:.1f} MB)"
        )

    def prepare(self, needs: Needs) -> None:
        """Raises if losses need what was not kept."""
        self._require_whole()
        if needs.teacher_features:
            raise ValueError(
                "A cache holds the teacher's logits, not its inner layers. Received: a loss that "
                f"reads {list(needs.teacher_features)} of the teacher. Leave that loss out, or "
                "give Distiller the teacher itself."
            )
        for head in needs.heads:
            name = head.output if head.output in self.formats else self.output_names[0]
            if self.formats[str(name)].top_k is not None and not head.top_k:
                raise ValueError(
                    "The cache holds the largest logits and the sum of the others. Received: a "
                    "loss, an adjustment or a temperature rule that reads all of them. Expected: "
                    "TemperatureKD, AsymmetricTemperatureKD or DecoupledKD without adjustment; or "
                    "a cache made without top_k."
                )

    def split(self, x: Nested) -> tuple[Nested, Any]:
        """Returns the student's inputs, and the rows that ride along; None with plain data."""
        if isinstance(x, dict) and set(x) == {attached.INPUTS, attached.ROWS}:
            return x[attached.INPUTS], x[attached.ROWS]
        return x, None

    def __call__(self, given: Any) -> Outputs:
        """Returns what the teacher said, from the rows of a batch."""
        if given is None:
            raise ValueError(
                "The batch brings no logits along. Received: plain data, with a cache as the "
                "teacher. Fit on cache.batches(...) or on cache.attach(data)."
            )
        return Outputs(
            self._one_or_all(
                {name: _logits(given[name], one.classes) for name, one in self.formats.items()}
            )
        )

    def steps(self, batch_size: int, drop_remainder: bool = False) -> int:
        """Number of batches in an epoch, for `fit(steps_per_epoch=...)`.

        Args:
            batch_size: Samples in a batch.
            drop_remainder: Whether a last, smaller batch is left out.

        Raises:
            ValueError: If there is no whole batch and smaller ones are left out.
        """
        return number_of_batches(len(self), batch_size, drop_remainder)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        first_epoch: int = 0,
        drop_remainder: bool = False,
    ) -> Any:
        """Makes a `tf.data.Dataset` for `fit`, whose samples bring along what the teacher said.

        Epoch e shows view e modulo `views`. With at least as many views as epochs these are the
        very batches of `Samples.batches` with the same seed; with fewer, the order is the epoch's
        and the picture the view's.

        Args:
            batch_size: As for `Samples.batches`, and so are the others.
            shuffle: Likewise.
            first_epoch: Likewise.
            drop_remainder: Likewise.

        Returns:
            Dataset of `({"inputs": ..., "teacher_rows": ...}, labels)`.

        Raises:
            ValueError: If the cache was opened without its data, or was not made of `Samples`.
        """
        if self.source is None:
            raise ValueError(
                "The cache was opened without its data. Pass it, CachedTeacher(path, data), or use "
                "cache.attach(data)."
            )
        samples = getattr(self.source, "samples", None)
        if samples is None:
            raise ValueError(
                "`batches` is for keras_ats.data.Samples. Received: a cache of "
                f"{self.source.kind}. Use cache.attach(data)."
            )
        self._require_whole()
        return attached.sample_batches(
            self._riders,
            samples,
            {
                **self.source.options,  # type: ignore[attr-defined]
                "batch_size": batch_size,
                "shuffle": shuffle,
                "first_epoch": first_epoch,
                "drop_remainder": drop_remainder,
                "views": self.views,
            },
        )

    def attach(self, data: Any, **options: Any) -> Any:
        """Returns the data with the teacher's logits riding along.

        Args:
            data: What the cache was made of, or has ids of the cache: `Samples` (a subset will do,
                but for mixup and CutMix), arrays `(x, y)`, a `tf.data.Dataset` of `(x, y, ids)`, a
                torch `Dataset`, or a `PyDataset`.
            **options: `ids=` for arrays; `shuffle=`, `seed=` and `first_epoch=` for a `PyDataset`.

        Returns:
            Of the same kind. `Samples`: an object with `batches` and `steps`. Arrays: `(x, y)` for
            `fit(*cache.attach((x, y)))`. A `tf.data.Dataset`: one of `(x, y)`. A torch `Dataset`:
            one with a sample for each id and view, and `sampler()` for one view after the other.
            A `PyDataset`: one without end, whose epochs have as many batches as before:
            `fit(cache.attach(data), steps_per_epoch=len(data))`.

        Raises:
            TypeError: If the data is of another kind than the cache's.
            ValueError: If the samples are others, or not there.
        """
        self._require_whole()
        kind = kind_of(data)
        if kind.kind == "samples":
            return CachedSamples(self, self._checked_samples(data))
        source = self._source(data, options.pop("ids", None))
        if source.kind != self._kind and KIND not in (source.kind, self._kind):
            raise TypeError(
                f"The cache was made of {self._kind}. Received: data={type(data).__name__}, which "
                f"is {source.kind}. Attach it to data of its own kind."
            )
        self._check_ids(source)
        return attached.attach(self._riders, source, data, options)

    def verify(
        self,
        teacher: Any,
        n: int = 64,
        *,
        data: Any = None,
        from_logits: FromLogits = None,
        seed: int = 0,
    ) -> None:
        """Runs the teacher again on some samples and views, and compares.

        `cache_teacher` does so by itself when it opens a cache that is there.

        Args:
            teacher: As for `cache_teacher`.
            n: How many samples, each in one view.
            data: What the cache was made of, where it was opened without it.
            from_logits: As for `cache_teacher`.
            seed: Of the choice.

        Raises:
            ValueError: If it says something else than is kept.
        """
        source = self.source if data is None else self._source(data)
        if source is None:
            raise ValueError(
                "`data` must be what the cache was made of, which it was opened without. Received: "
                "data=None. Pass data=, or open it with CachedTeacher(path, data)."
            )
        self._require_whole()
        said = self.manifest["teacher"]
        spoken = Spoken(teacher, said["name"], from_logits, said["classes"])
        found, given = ({"teacher": one} for one in (said, spoken.description))
        manifest.refuse(self.path, manifest.differences(found, given, ("teacher",)))
        chosen = choose(len(self), self.views, as_integer(n, "n"), as_integer(seed, "seed", 0))
        verify_rows(self.rows, self.formats, source, spoken, chosen)

    def rows(self, view: int, places: Array) -> Array:
        """Returns the rows of samples, found by their places in `ids`, as they lie in the files."""
        return self._shards.read(view, places)

    def logits(self, view: int = 0, ids: Any = None) -> Any:
        """Returns what the teacher said of samples, for a look at it.

        Args:
            view: The view.
            ids: Ids of samples; None (default) for all.

        Returns:
            float32, `(n, ..., classes)`; by output name where there are several. Logits that were
            not kept are minus infinity.
        """
        view = as_integer(view, "view", 0) % self.views
        places = np.arange(len(self)) if ids is None else self._riders.places(np.asarray(ids))
        rows = self.rows(view, places)
        return self._one_or_all(
            {name: one.logits(rows[name]) for name, one in self.formats.items()}
        )

    def get_config(self) -> Config:
        """Returns the constructor's arguments, without the data."""
        return {"path": str(self.path), "views": self.views}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Opens the cache that `get_config` described."""
        return cls(**config)

    @property
    def _kind(self) -> str:
        kind: str = self.manifest["data"]["kind"]
        return kind

    @property
    def _riders(self) -> Riders:
        return Riders(self._shards, self.formats, self.ids, self._fingerprints, self.views)

    def _one_or_all(self, named: Mapping[str, Any]) -> Any:
        return dict(named) if len(self.formats) > 1 else next(iter(named.values()))

    def _source(self, data: Any, ids: Any = None) -> Source:
        """The source that the cache would have had of this data."""
        of = self.manifest["augmentation"]
        kind = kind_of(data).kind
        options = {
            name: of.get(name) if kind == "samples" else None
            for name in ("augment", "padding", "mixup", "cutmix")
        }
        if kind == "samples" and self._kind == KIND:
            options["augment"] = False
        return source_of(data, ids, of.get("seed") or 0, options)

    def _use(self, source: Source) -> None:
        """Keeps a source, if it is what the cache was made of."""
        if self._kind == KIND:
            self._check_ids(source)
        else:
            given = {
                **self.manifest,
                "data": data_config(source),
                "augmentation": source.augmentation(),
            }
            problems = manifest.differences(self.manifest, given, ("data", "augmentation"))
            manifest.refuse(self.path, problems)
        self.source = source

    def _checked_samples(self, samples: Samples) -> Source:
        source = self._source(samples)
        if self.manifest["augmentation"].get("mixup") or self.manifest["augmentation"].get(
            "cutmix"
        ):
            self._use(source)  # A partner may be any of them.
        elif self._kind == KIND:
            self._check_ids(source)
        else:
            # A subset has other ids, but each sample is what it was.
            left = dict.fromkeys(("ids", "fingerprints", "count"))
            found, given = (
                {"data": {**one, **left}} for one in (self.manifest["data"], data_config(source))
            )
            manifest.refuse(self.path, manifest.differences(found, given, ("data",)))
            self._check_ids(source)
        return source

    def _check_ids(self, source: Source) -> None:
        places = self._riders.places(source.ids)
        if self._fingerprints is None or source.fingerprints is None:
            return
        others = source.ids[self._fingerprints[places] != source.fingerprints]
        if len(others):
            raise ValueError(
                f"{len(others)} of {len(source)} samples are not those that the teacher was shown. "
                f"Received: other content for the ids {others[:5].tolist()}. Expected: the samples "
                f"that the cache at {self.path} was made of, each with its id."
            )

    def _require_whole(self) -> None:
        missing = self._shards.missing(self.views)
        if missing:
            raise ValueError(
                f"The cache at {self.path} is not whole: {len(missing)} of "
                f"{self.views * self._shards.number} files are missing, the first of them "
                f"{self._shards.path(*missing[0])}. Call cache_teacher again, which writes what is "
                "missing."
            )


class CachedSamples:
    """Samples whose batches bring along what a cached teacher said of them."""

    def __init__(self, cache: CachedTeacher, source: Source) -> None:
        self._cache = cache.__class__.__new__(cache.__class__)
        vars(self._cache).update(vars(cache), source=source)
        self._samples: Samples = source.samples  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._samples)

    def steps(self, batch_size: int, drop_remainder: bool = False) -> int:
        """As `Samples.steps`."""
        return self._samples.steps(batch_size, drop_remainder)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        first_epoch: int = 0,
        drop_remainder: bool = False,
    ) -> Any:
        """As `CachedTeacher.batches`."""
        return self._cache.batches(
            batch_size, shuffle=shuffle, first_epoch=first_epoch, drop_remainder=drop_remainder
        )


def shards_of(path: Path, of: Config) -> Shards:
    """The files of the cache that a manifest describes."""
    formats = {name: RowFormat.from_config(one) for name, one in of["rows"].items()}
    layout = of["layout"]
    record = record_of(formats, with_fingerprints=layout["with_fingerprints"])
    count, size = of["data"]["count"], layout["shard_size"]
    return Shards(path, manifest.identity(of), record, count, size)


def _logits(carried: Mapping[str, Tensor], classes: int) -> Any:
    """Logits of the rows of one output, in float32."""
    maximum = ops.expand_dims(ops.cast(carried["maximum"], "float32"), -1)
    values = maximum + ops.cast(carried["differences"], "float32")
    if "ids" not in carried:
        return values
    # What is kept of the tail is relative to the maximum, too.
    return TopKLogits(
        values,
        carried["ids"],
        maximum[..., 0],
        carried["tail"],
        carried["count"],
        carried["mean"],
        classes,
    )
