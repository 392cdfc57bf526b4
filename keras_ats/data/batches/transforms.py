"""What happens to the features of a batch: crops and flips, shifts in time, normalisation."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from keras_ats.data.batches.draws import DOWN, FLIP, RIGHT, below, random_bits
from keras_ats.data.spectrograms import LOG_FLOOR
from keras_ats.data.statistics import Channels
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

Transform: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From features `(batch, ...)`, their epoch, one or `(batch,)`, and ids to new features."""


def crop_and_flip(padding: int, seed: int) -> Transform:
    """Pads with black, cuts a window of the old size at random, mirrors half of the samples.

    Args:
        padding: Pixels on each side.
        seed: Of the draws, at least 0.

    Returns:
        A transform of images `(batch, height, width, channels)` that keeps shape and dtype.
    """
    tf = import_tensorflow()

    def transform(images: Tensor, epoch: Tensor, ids: Tensor) -> Tensor:
        flip = below(2, random_bits(seed, epoch, ids, FLIP))
        columns = _window(images.shape[2], padding, random_bits(seed, epoch, ids, RIGHT))
        columns = tf.where(flip[:, tf.newaxis] == 1, columns[:, ::-1], columns)
        rows = _window(images.shape[1], padding, random_bits(seed, epoch, ids, DOWN))
        images = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        images = tf.gather(images, rows, axis=1, batch_dims=1)
        return tf.gather(images, columns, axis=2, batch_dims=1)

    return transform


def shift_in_time(padding: int, seed: int) -> Transform:
    """Moves each spectrogram by up to `padding` frames either way; silence comes in.

    Args:
        padding: Frames on each side.
        seed: Of the draws, at least 0.

    Returns:
        A transform of spectrograms `(batch, frames, bins, channels)` that keeps shape and dtype.
    """
    tf = import_tensorflow()
    margins = [[0, 0], [padding, padding], [0, 0], [0, 0]]

    def transform(spectrograms: Tensor, epoch: Tensor, ids: Tensor) -> Tensor:
        frames = _window(spectrograms.shape[1], padding, random_bits(seed, epoch, ids, DOWN))
        padded = tf.pad(spectrograms, margins, constant_values=LOG_FLOOR)
        return tf.gather(padded, frames, axis=1, batch_dims=1)

    return transform


def normalisation(mean: Channels, std: Channels, scale: float) -> Transform:
    """Computes `(features / scale - mean) / std`.

    Args:
        mean: Of each channel.
        std: Of each channel.
        scale: What features are divided by first, 255 for bytes.

    Returns:
        A transform of features `(batch, ..., channels)` to float32.
    """
    tf = import_tensorflow()
    # As one product and one sum.
    factor, offset = 1.0 / (scale * np.asarray(std)), -np.asarray(mean) / np.asarray(std)

    def transform(features: Tensor, epoch: Tensor, ids: Tensor) -> Tensor:
        features = tf.cast(features, tf.float32) * tf.constant(factor, tf.float32)
        return features + tf.constant(offset, tf.float32)

    return transform


def _window(length: int, padding: int, bits: Tensor) -> Tensor:
    """For each sample the `length` indices that it keeps of `length + 2 * padding`."""
    tf = import_tensorflow()
    return below(2 * padding + 1, bits)[:, tf.newaxis] + tf.range(length)
