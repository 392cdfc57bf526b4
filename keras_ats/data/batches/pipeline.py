"""The `tf.data` pipeline behind `Samples.batches`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ats.data.batches import augmentation
from keras_ats.data.statistics import scale_of
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

if TYPE_CHECKING:
    from keras_ats.data.samples import Samples


@dataclass(frozen=True)
class Options:
    """The arguments of `Samples.batches`, checked."""

    batch_size: int
    shuffle: bool
    augment: bool
    padding: int
    seed: int
    first_epoch: int
    with_ids: bool
    drop_remainder: bool


def dataset(samples: "Samples", tensors: tuple[Tensor, Tensor, Tensor], options: Options) -> Any:
    """Builds the dataset: epochs, then batches of positions, then the samples at these."""
    tf = import_tensorflow()
    with tf.device("CPU:0"):
        if options.shuffle:
            epochs = tf.data.Dataset.range(options.first_epoch, np.iinfo(np.int64).max)
            positions = epochs.flat_map(lambda epoch: _positions(tensors[2], epoch, options))
            positions = positions.apply(
                tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            )
        else:
            epoch = tf.constant(options.first_epoch, tf.int64)
            positions = _positions(tensors[2], epoch, options)
        batches = positions.map(
            lambda epoch, chosen: _batch(samples, tensors, options, epoch, chosen),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        chosen = tf.data.Options()
        # A process of several takes every n-th batch. There are no files that it could choose of.
        chosen.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return batches.prefetch(tf.data.AUTOTUNE).with_options(chosen)


def _positions(ids: Tensor, epoch: Tensor, options: Options) -> Any:
    """Dataset of `(epoch, positions of a batch)` for one epoch."""
    tf = import_tensorflow()
    if options.shuffle:
        order = augmentation.shuffled(options.seed, epoch, ids)
    else:
        order = tf.range(ids.shape[0])
    positions = tf.data.Dataset.from_tensor_slices(order)
    positions = positions.batch(options.batch_size, drop_remainder=options.drop_remainder)
    return positions.map(lambda chosen: (epoch, chosen))


def _batch(
    samples: "Samples",
    tensors: tuple[Tensor, Tensor, Tensor],
    options: Options,
    epoch: Tensor,
    chosen: Tensor,
) -> tuple[Tensor, ...]:
    tf = import_tensorflow()
    features, labels, ids = (tf.gather(tensor, chosen) for tensor in tensors)
    if options.augment:
        is_image = samples.kind == "images"
        augmented = augmentation.crop_and_flip if is_image else augmentation.shift_in_time
        features = augmented(features, options.padding, options.seed, epoch, ids)
    # (features / scale - mean) / std, as one product and one sum.
    mean, std = np.asarray(samples.mean), np.asarray(samples.std)
    factor, offset = 1.0 / (scale_of(samples.features) * std), -mean / std
    features = tf.cast(features, tf.float32) * tf.constant(factor, tf.float32)
    features += tf.constant(offset, tf.float32)
    return (features, labels, ids) if options.with_ids else (features, labels)
