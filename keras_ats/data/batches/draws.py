"""Random numbers drawn from (seed, epoch, sample id, purpose) and nothing else.

TensorFlow's stateless generators give one stream to a whole batch, so what a sample gets would
depend on its place in the batch. Here each sample has a stream of its own: the finaliser of
SplitMix64 (Steele, Lea and Flood, 2014), applied to seed, epoch, id and purpose in turn.
"""

from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

# What a random number is for.
ORDER, DOWN, RIGHT, FLIP, PARTNER, SHARE, MIXER, BOX_DOWN, BOX_RIGHT = range(9)


def random_bits(seed: int, epoch: Tensor, ids: Tensor, purpose: int) -> Tensor:
    """Random 64 bits for each sample.

    Args:
        seed: At least 0.
        epoch: int64, a scalar or one for each sample.
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


def below(limit: int, bits: Tensor) -> Tensor:
    """Numbers from 0 to `limit - 1`, int32, from the upper half of the bits."""
    tf = import_tensorflow()
    upper = tf.bitwise.right_shift(bits, tf.constant(32, tf.uint64))
    product = upper * tf.constant(limit, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.int32)


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
