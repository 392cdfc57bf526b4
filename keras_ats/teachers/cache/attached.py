"""Data with the rows of a cache riding along, of each kind."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ats.checks import as_boolean, as_integer
from keras_ats.data.samples import Samples
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.teachers.cache.riders import Riders
from keras_ats.teachers.cache.rows import Array
from keras_ats.teachers.cache.sources.in_memory import FromArrays
from keras_ats.teachers.cache.sources.seeded import FromBatches, FromItems
from keras_ats.teachers.cache.sources.source import Source, fingerprints
from keras_ats.teachers.cache.sources.tf_dataset import FromDataset, parts_of
from keras_ats.types import Config, Nested, Tensor

INPUTS = "inputs"
ROWS = "teacher_rows"


def sample_batches(riders: Riders, samples: Samples, options: Config) -> Any:
    """A `tf.data.Dataset` of samples.

    Args:
        riders: Of the cache.
        samples: The samples.
        options: Of `Samples._batches`.
    """

    def finish(features: Tensor, labels: Tensor, ids: Tensor, view: Tensor) -> Any:
        return _with_rows(features, _rows_in_graph(riders, view, ids)), labels

    return samples._batches(finish, **options)


def attach(riders: Riders, source: Source, data: Any, options: Config) -> Any:
    """Attaches rows to data; see `CachedTeacher.attach`."""
    if isinstance(source, FromBatches):
        return AttachedBatches(riders, source, **options)
    if options:
        raise TypeError(
            f"attach() got an unexpected keyword argument. Received: {next(iter(options))!r} with "
            f"data of the kind {source.kind}. Expected: ids for arrays; shuffle, seed and "
            "first_epoch for a PyDataset."
        )
    if isinstance(source, FromArrays):
        carried = riders.carry(riders.rows(0, riders.places(source.ids)))
        inputs = _with_rows(source.inputs, carried)
        return (inputs, source.labels) if isinstance(data, tuple) else inputs
    if isinstance(source, FromDataset):
        return _attached_dataset(riders, source)
    if isinstance(source, FromItems):
        return AttachedItems(riders, source)
    raise TypeError(f"`data` is of no known kind. Received: data={data!r}.")


def _with_rows(inputs: Nested, rows: Any) -> dict[str, Any]:
    return {INPUTS: inputs, ROWS: rows}


def _rows_in_graph(riders: Riders, view: Any, ids: Tensor) -> dict[str, dict[str, Tensor]]:
    """Reads the rows of a batch within a pipeline."""
    tf = import_tensorflow()
    carried = riders.carried
    flat = tf.numpy_function(
        riders.flat, [view, ids], [tf.as_dtype(dtype) for dtype, _ in carried.values()]
    )
    rows: dict[str, dict[str, Tensor]] = {}
    for ((output, name), (_, shape)), tensor in zip(carried.items(), flat, strict=True):
        tensor.set_shape((ids.shape[0], *shape))
        rows.setdefault(output, {})[name] = tensor
    return rows


def _attached_dataset(riders: Riders, source: FromDataset) -> Any:
    tf = import_tensorflow()

    def with_rows(inputs: Nested, labels: Any, ids: Tensor) -> Any:
        leaves = keras.tree.flatten(inputs)

        def checked(own: Array, *arrays: Array) -> Array:
            expected = riders.fingerprints
            if expected is not None:
                riders.check(expected[riders.places(own)], fingerprints(list(arrays)), own)
            return own

        known = tf.numpy_function(checked, [ids, *leaves], ids.dtype)
        known.set_shape(ids.shape)
        together = _with_rows(inputs, _rows_in_graph(riders, 0, tf.cast(known, tf.int64)))
        return together if labels is None else (together, labels)

    if source.has_ids:
        return source.dataset.map(with_rows, num_parallel_calls=tf.data.AUTOTUNE)

    def numbered(count: Tensor, element: Any) -> Any:
        size = tf.shape(tf.nest.flatten(element)[0], tf.int64)[0]
        return count + size, (count, element)

    def from_place(count: Tensor, element: Any) -> Any:
        inputs, labels, _ = parts_of(element, False)
        size = tf.shape(tf.nest.flatten(element)[0], tf.int64)[0]
        return with_rows(inputs, labels, tf.range(count, count + size))

    # Without ids a sample is known by its place.
    counted = source.dataset.scan(tf.constant(0, tf.int64), numbered)
    return counted.map(from_place, num_parallel_calls=tf.data.AUTOTUNE)


class AttachedItems:
    """A map-style dataset with one sample for each id and view, rows riding along.

    Sample i of view v is at `i + n * v`, so that no worker process needs to know the epoch. A
    `DataLoader` that goes through all of it has seen each view once; with `sampler` an epoch is one
    view.

    Args:
        riders: Of the cache.
        source: The dataset.
    """

    def __init__(self, riders: Riders, source: FromItems) -> None:
        self.riders = riders
        self.source = source

    def __len__(self) -> int:
        return len(self.source) * self.riders.views

    def __getitem__(self, index: Any) -> Any:
        view, place = divmod(int(index), len(self.source))
        if not 0 <= view < self.riders.views:
            raise IndexError(index)
        inputs, labels = self.source.item(place, view)
        rows = self.riders.rows(view, np.array([place]))
        self.riders.check(rows["fingerprint"], self.source.fingerprint(inputs), np.array([place]))
        carried = keras.tree.map_structure(lambda part: part[0], self.riders.carry(rows))
        together = _with_rows(inputs, carried)
        return together if labels is None else (together, labels)

    def sampler(
        self, shuffle: bool = True, seed: int = 0, first_epoch: int = 0
    ) -> "OneViewAfterTheOther":
        """Returns a sampler for a `DataLoader` whose epoch e goes through view e modulo views."""
        return OneViewAfterTheOther(self, shuffle, seed, first_epoch)


class OneViewAfterTheOther:
    """Indices of `AttachedItems` for a `DataLoader`: each epoch goes through the next view.

    Args:
        items: What it is for.
        shuffle: Whether each epoch has an order of its own.
        seed: Of the orders.
        first_epoch: The epoch that comes first, counted from 0.
    """

    def __init__(
        self, items: AttachedItems, shuffle: bool = True, seed: int = 0, first_epoch: int = 0
    ) -> None:
        self.items = items
        self.shuffle = as_boolean(shuffle, "shuffle")
        self.seed = as_integer(seed, "seed", 0)
        self.epoch = as_integer(first_epoch, "first_epoch", 0)

    def __len__(self) -> int:
        return len(self.items.source)

    def __iter__(self) -> Iterator[int]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        count = len(self)
        first = count * (epoch % self.items.riders.views)
        return iter((first + _order(count, self.shuffle, self.seed, epoch)).tolist())


class AttachedBatches(keras.utils.PyDataset):
    """The batches of a `PyDataset`, epoch after epoch without end, with rows riding along.

    The epoch follows from the index alone, so that no worker process needs to be told. A
    `PyDataset` that shuffles in `on_epoch_end` is not let: its batches are shuffled here.

    Args:
        riders: Of the cache.
        source: The dataset.
        shuffle: Whether each epoch has its batches in an order of its own.
        seed: Of the orders.
        first_epoch: The epoch that comes first, counted from 0.
    """

    def __init__(
        self,
        riders: Riders,
        source: FromBatches,
        shuffle: bool = False,
        seed: int = 0,
        first_epoch: int = 0,
    ) -> None:
        of = source.dataset
        super().__init__(of.workers, of.use_multiprocessing, of.max_queue_size)
        self.riders = riders
        self.source = source
        self.shuffle = as_boolean(shuffle, "shuffle")
        self.seed = as_integer(seed, "seed", 0)
        self.first_epoch = as_integer(first_epoch, "first_epoch", 0)

    @property
    def num_batches(self) -> None:
        """None: it does not end."""

    def __getitem__(self, index: int) -> Any:
        epoch, place = divmod(int(index), self.source.number)
        epoch += self.first_epoch
        place = int(_order(self.source.number, self.shuffle, self.seed, epoch)[place])
        view = epoch % self.riders.views
        inputs, *more = self.source.element(place, view)
        found = self.source.fingerprint(inputs)
        first = place * int(self.source.batch_size or 0)
        places = np.arange(first, first + len(found))
        rows = self.riders.rows(view, places)
        self.riders.check(rows["fingerprint"], found, places)
        return (_with_rows(inputs, self.riders.carry(rows)), *more)


def _order(count: int, shuffle: bool, seed: int, epoch: int) -> Array:
    return np.random.default_rng((seed, epoch)).permutation(count) if shuffle else np.arange(count)
