"""Log-mel spectrograms of one-second recordings."""

import math

from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

SAMPLE_RATE = 16_000
WINDOW = 1024
LOWEST_HERTZ, HIGHEST_HERTZ = 60.0, 7600.0
# Keeps the logarithm finite; silence is its logarithm.
POWER_FLOOR = 1e-6
LOG_FLOOR = math.log(POWER_FLOOR)


def log_mel(audio: Tensor, size: int) -> Tensor:
    """Turns a recording into `size` frames of `size` mel bins.

    The recording is cut or padded with silence at its end to one second. Hann windows of 1024
    samples (64 ms) follow each other at even steps, 30 ms for 32 frames. Their power spectra are
    summed in triangular mel bins from 60 to 7600 Hz, and the natural logarithm is taken of the
    sum plus 1e-6.

    Args:
        audio: Shape `(samples,)`, int16, 16 kHz.
        size: Number of frames, and of bins.

    Returns:
        Shape `(size, size, 1)`, float32: time, frequency, channel.
    """
    tf = import_tensorflow()
    wave = tf.cast(audio[:SAMPLE_RATE], tf.float32) / 32768.0
    wave = tf.ensure_shape(tf.pad(wave, [[0, SAMPLE_RATE - tf.shape(wave)[0]]]), [SAMPLE_RATE])
    hop = (SAMPLE_RATE - WINDOW) // (size - 1)
    spectra = tf.square(tf.abs(tf.signal.stft(wave, WINDOW, hop)))[:size]
    mel = tf.signal.linear_to_mel_weight_matrix(
        size, spectra.shape[-1], SAMPLE_RATE, LOWEST_HERTZ, HIGHEST_HERTZ
    )
    return tf.math.log(tf.matmul(spectra, mel) + POWER_FLOOR)[..., tf.newaxis]
