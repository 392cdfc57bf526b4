"""The `tf.data` pipeline behind `Samples.batches`: epochs, their orders, and batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from keras_ats.data.arrays import Array
from keras_ats.data.batches.draws import shuffled
from keras_ats.data.batches.mixing import Mixing, mixed, partners
from keras_ats.data.batches.transforms import Transform
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

Finish: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Any]
"""From features, labels, ids and view, a scalar, to what the dataset yields."""


@dataclass(frozen=True)
class Options:
    """Which batches there are, as the arguments of `Samples.batches` say it."""

    batch_size: int
    shuffle: bool
    seed: int
    first_epoch: int
    drop_remainder: bool
    views: int | None = None
    classes: int = 0
    mixing: Mixing | None = None
    # Instead of epochs: for each batch the view and the position of each sample.
    chosen: Iterable[tuple[Array, Array]] | None = None


def dataset(
    tensors: tuple[Tensor, Tensor, Tensor],
    transforms: Sequence[Transform],
    options: Options,
    finish: Finish,
) -> Any:
    """Builds the dataset: epochs, then batches of positions, then the samples at these.

    Args:
        tensors: Features `(n, ...)`, labels `(n,)` and ids `(n,)`.
        transforms: What is done to the features of a batch, in this order.
        options: Checked.
        finish: Makes an element of the dataset.

    Returns:
        A `tf.data.Dataset`.
    """
    tf = import_tensorflow()
    with tf.device("CPU:0"):
        ids = tensors[2]
        if options.chosen is not None:
            positions = _chosen(options.chosen)
        elif options.shuffle:
            epochs = tf.data.Dataset.range(options.first_epoch, np.iinfo(np.int64).max)
            positions = epochs.flat_map(lambda epoch: _positions(ids, epoch, options))
            positions = positions.apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )
        else:
            positions = _positions(ids, tf.constant(options.first_epoch, tf.int64), options)

        def batch(epoch: Tensor, chosen: Tensor) -> Any:
            view = epoch if options.views is None else epoch % options.views
            features, labels, ids = _seen(tensors, transforms, view, chosen)
            if options.mixing:
                others = partners(options.seed, view, ids, tensors[2])
                partner = _seen(tensors, transforms, view, others)
                features, labels = mixed(
                    options.mixing,
                    options.seed,
                    view,
                    ids,
                    (features, partner[0]),
                    (tf.one_hot(labels, options.classes), tf.one_hot(partner[1], options.classes)),
                )
            return finish(features, labels, ids, view)

        batches = positions.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        sharding = tf.data.Options()
        # A process of several takes every n-th batch. There are no files that it could choose of.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        sharding.experimental_distribute.auto_shard_policy = policy
        return batches.prefetch(tf.data.AUTOTUNE).with_options(sharding)


def _chosen(batches: Iterable[tuple[Array, Array]]) -> Any:
    """Dataset of `(views, positions)` of batches, each sample with a view of its own."""
    tf = import_tensorflow()
    pairs = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.int64)
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=pairs)


def _seen(
    tensors: tuple[Tensor, Tensor, Tensor],
    transforms: Sequence[Transform],
    view: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features as they are seen in a view, labels and ids of the chosen positions."""
    tf = import_tensorflow()
    features, labels, ids = (tf.gather(tensor, chosen) for tensor in tensors)
    for transform in transforms:
        features = transform(features, view, ids)
    return features, labels, ids


def _positions(ids: Tensor, epoch: Tensor, options: Options) -> Any:
    """Dataset of `(epoch, positions of a batch)` for one epoch."""
    tf = import_tensorflow()
    order = shuffled(options.seed, epoch, ids) if options.shuffle else tf.range(ids.shape[0])
    positions = tf.data.Dataset.from_tensor_slices(order)
    positions = positions.batch(options.batch_size, drop_remainder=options.drop_remainder)
    return positions.map(lambda chosen: (epoch, chosen))
