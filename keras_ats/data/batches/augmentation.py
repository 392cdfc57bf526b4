"""Random crops, flips and time shifts, drawn from (seed, epoch, sample id) and nothing else.

TensorFlow's stateless generators give one stream to a whole batch, so what a sample gets would
depend on its place in the batch. Here each sample has a stream of its own: the finaliser of
SplitMix64 (Steele, Lea and Flood, 2014), applied to seed, epoch, id and purpose in turn.
"""

from keras_ats.data.spectrograms import LOG_FLOOR
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

# What a random number is for.
ORDER, DOWN, RIGHT, FLIP = range(4)


def random_bits(seed: int, epoch: Tensor, ids: Tensor, purpose: int) -> Tensor:
    """Random 64 bits for each sample.

    Args:
        seed: At least 0.
        epoch: Scalar int64.
        ids: Shape `(n,)`, int64.
        purpose: One of the constants above, so that crop and flip are drawn independently.

    Returns:
        Shape `(n,)`, uint64.
    """
    tf = import_tensorflow()
    state = _mixed(tf.constant(seed, tf.uint64))
    state = _mixed(tf.bitwise.bitwise_xor(state, tf.cast(epoch, tf.uint64)))
    state = _mixed(tf.bitwise.bitwise_xor(state, tf.cast(ids, tf.uint64)))
    return _mixed(tf.bitwise.bitwise_xor(state, tf.constant(purpose, tf.uint64)))


def shuffled(seed: int, epoch: Tensor, ids: Tensor) -> Tensor:
    """The positions of `ids` in this epoch's order, shape `(n,)`, int32."""
    tf = import_tensorflow()
    # One bit less, because TensorFlow sorts signed numbers only.
    keys = tf.bitwise.right_shift(random_bits(seed, epoch, ids, ORDER), tf.constant(1, tf.uint64))
    return tf.argsort(tf.cast(keys, tf.int64))


def crop_and_flip(images: Tensor, padding: int, seed: int, epoch: Tensor, ids: Tensor) -> Tensor:
    """Pads with black, cuts a window of the old size at random, mirrors half of the samples.

    Args:
        images: Shape `(batch, height, width, channels)`.
        padding: Pixels on each side.
        seed: As in `random_bits`.
        epoch: As in `random_bits`.
        ids: Shape `(batch,)`.

    Returns:
        Same shape and dtype as `images`.
    """
    tf = import_tensorflow()
    flip = _below(2, random_bits(seed, epoch, ids, FLIP))
    columns = _window(images.shape[2], padding, random_bits(seed, epoch, ids, RIGHT))
    columns = tf.where(flip[:, tf.newaxis] == 1, columns[:, ::-1], columns)
    rows = _window(images.shape[1], padding, random_bits(seed, epoch, ids, DOWN))
    images = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    return tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def shift_in_time(
    spectrograms: Tensor, padding: int, seed: int, epoch: Tensor, ids: Tensor
) -> Tensor:
    """Moves each spectrogram by up to `padding` frames either way; silence comes in.

    Args:
        spectrograms: Shape `(batch, frames, bins, channels)`.
        padding: Frames on each side.
        seed: As in `random_bits`.
        epoch: As in `random_bits`.
        ids: Shape `(batch,)`.

    Returns:
        Same shape and dtype as `spectrograms`.
    """
    tf = import_tensorflow()
    frames = _window(spectrograms.shape[1], padding, random_bits(seed, epoch, ids, DOWN))
    margins = [[0, 0], [padding, padding], [0, 0], [0, 0]]
    padded = tf.pad(spectrograms, margins, constant_values=LOG_FLOOR)
    return tf.gather(padded, frames, axis=1, batch_dims=1)


def _mixed(state: Tensor) -> Tensor:
    tf = import_tensorflow()

    def xor_shifted(bits: Tensor, by: int) -> Tensor:
        return tf.bitwise.bitwise_xor(
            bits, tf.bitwise.right_shift(bits, tf.constant(by, bits.dtype))
        )

    state += tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    state = xor_shifted(state, 30) * tf.constant(0xBF58476D1CE4E5B9, tf.uint64)
    state = xor_shifted(state, 27) * tf.constant(0x94D049BB133111EB, tf.uint64)
    return xor_shifted(state, 31)


def _below(limit: int, bits: Tensor) -> Tensor:
    """Numbers from 0 to `limit - 1`, int32, from the upper half of the bits."""
    tf = import_tensorflow()
    upper = tf.bitwise.right_shift(bits, tf.constant(32, tf.uint64))
    product = upper * tf.constant(limit, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int32)


def _window(length: int, padding: int, bits: Tensor) -> Tensor:
    """For each sample the `length` indices that it keeps of `length + 2 * padding`."""
    tf = import_tensorflow()
    return _below(2 * padding + 1, bits)[:, tf.newaxis] + tf.range(length)
