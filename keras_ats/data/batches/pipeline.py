"""The `tf.data` pipeline behind `Samples.batches`: epochs, their orders, and batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ats.data.batches.draws import shuffled
from keras_ats.data.batches.transforms import Transform
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor


@dataclass(frozen=True)
class Options:
    """Which batches there are, as the arguments of `Samples.batches` say it."""

    batch_size: int
    shuffle: bool
    seed: int
    first_epoch: int
    with_ids: bool
    drop_remainder: bool


def dataset(
    tensors: tuple[Tensor, Tensor, Tensor], transforms: Sequence[Transform], options: Options
) -> Any:
    """Builds the dataset: epochs, then batches of positions, then the samples at these.

    Args:
        tensors: Features `(n, ...)`, labels `(n,)` and ids `(n,)`.
        transforms: What is done to the features of a batch, in this order.
        options: Checked.

    Returns:
        A `tf.data.Dataset`.
    """
    tf = import_tensorflow()
    with tf.device("CPU:0"):
        ids = tensors[2]
        if options.shuffle:
            epochs = tf.data.Dataset.range(options.first_epoch, np.iinfo(np.int64).max)
            positions = epochs.flat_map(lambda epoch: _positions(ids, epoch, options))
            positions = positions.apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )
        else:
            positions = _positions(ids, tf.constant(options.first_epoch, tf.int64), options)

        def batch(epoch: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
            features, labels, ids = (tf.gather(tensor, chosen) for tensor in tensors)
            for transform in transforms:
                features = transform(features, epoch, ids)
            return (features, labels, ids) if options.with_ids else (features, labels)

        batches = positions.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        sharding = tf.data.Options()
        # A process of several takes every n-th batch. There are no files that it could choose of.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        sharding.experimental_distribute.auto_shard_policy = policy
        return batches.prefetch(tf.data.AUTOTUNE).with_options(sharding)


def _positions(ids: Tensor, epoch: Tensor, options: Options) -> Any:
    """Dataset of `(epoch, positions of a batch)` for one epoch."""
    tf = import_tensorflow()
    order = shuffled(options.seed, epoch, ids) if options.shuffle else tf.range(ids.shape[0])
    positions = tf.data.Dataset.from_tensor_slices(order)
    positions = positions.batch(options.batch_size, drop_remainder=options.drop_remainder)
    return positions.map(lambda chosen: (epoch, chosen))
