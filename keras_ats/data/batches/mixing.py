"""Mixup and CutMix whose partner and share are a pure function of (seed, view, sample id)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_ats.checks import non_negative_number
from keras_ats.data.batches.draws import (
    BOX_DOWN,
    BOX_RIGHT,
    MIXER,
    PARTNER,
    SHARE,
    below,
    random_bits,
)
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor

# Shares are drawn from this many quantiles of their distribution: a look-up gives the same number
# on every machine, which arithmetic in float32 does not promise.
_QUANTILES = 65536


@dataclass(frozen=True)
class Mixing:
    """What samples are mixed by.

    Attributes:
        mixup: Concentration of the Beta distribution that shares are drawn from; 0 for none.
        cutmix: The same for CutMix. With both, each sample gets one of the two, evenly.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


def as_mixing(mixup: Any, cutmix: Any, shape: tuple[int, ...]) -> Mixing:
    """Returns the mixing, or raises if it does not fit the samples.

    Args:
        mixup: As in `Mixing`.
        cutmix: As in `Mixing`.
        shape: Of the features.
    """
    mixing = Mixing(non_negative_number(mixup, "mixup"), non_negative_number(cutmix, "cutmix"))
    if mixing.cutmix and len(shape) != 4:
        raise ValueError(
            "`cutmix` needs features of shape (n, height, width, channels). Received: "
            f"cutmix={cutmix!r} with features of shape {shape}. Use mixup, which takes any shape."
        )
    return mixing


def partners(seed: int, view: Tensor, ids: Tensor, all_ids: Tensor) -> Tensor:
    """Positions in `all_ids` of the samples that these are mixed with, int32.

    Args:
        seed: Of the draws.
        view: int64, a scalar or one for each sample.
        ids: Shape `(batch,)`, int64.
        all_ids: Of all samples, shape `(n,)`.
    """
    tf = import_tensorflow()
    # In the order of ids, so that the order of the samples does not matter.
    in_order = tf.argsort(all_ids)
    return tf.gather(in_order, below(all_ids.shape[0], random_bits(seed, view, ids, PARTNER)))


def mixed(
    mixing: Mixing,
    seed: int,
    view: Tensor,
    ids: Tensor,
    features: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Mixes each sample with its partner.

    Args:
        mixing: Not empty.
        seed: Of the draws.
        view: int64, a scalar or one for each sample.
        ids: Shape `(batch,)`, int64.
        features: The samples' and their partners', `(batch, ...)`, float32.
        labels: One-hot rows of both, `(batch, classes)`, float32.

    Returns:
        Features and soft labels of the same shapes.
    """
    tf = import_tensorflow()
    place = below(_QUANTILES, random_bits(seed, view, ids, SHARE))
    ones = [1] * (len(features[0].shape) - 1)
    if not mixing.cutmix:
        share = tf.gather(tf.constant(beta_quantiles(mixing.mixup), tf.float32), place)
        kept = tf.reshape(share, [-1, *ones])
    else:
        outside = _outside_box(mixing.cutmix, features[0].shape, seed, view, ids, place)
        kept = tf.cast(outside, tf.float32)
        share = tf.reduce_mean(kept, axis=[1, 2, 3])
        if mixing.mixup:
            even = below(2, random_bits(seed, view, ids, MIXER)) == 0
            other = tf.gather(tf.constant(beta_quantiles(mixing.mixup), tf.float32), place)
            kept = tf.where(tf.reshape(even, [-1, *ones]), tf.reshape(other, [-1, *ones]), kept)
            share = tf.where(even, other, share)
    rows = share[:, tf.newaxis]
    return (
        kept * features[0] + (1.0 - kept) * features[1],
        rows * labels[0] + (1.0 - rows) * labels[1],
    )


def beta_quantiles(concentration: float) -> npt.NDArray[np.float64]:
    r"""Evenly spaced quantiles of $\mathrm{Beta}(a, a)$, shape `(65536,)`.

    With $u = t^a$ the lower half of its distribution function is the integral of a smooth function,
    $\int_0^{x^a} (1 - u^{1/a})^{a-1} du$, whatever $a$ is; the upper half is its mirror image.
    """
    power = 1.0 / concentration
    edge = 0.5**concentration
    u = np.linspace(0.0, edge, 20001)
    density = (1.0 - u**power) ** (concentration - 1.0)
    steps = 0.5 * (density[1:] + density[:-1])
    distribution = np.concatenate([[0.0], np.cumsum(steps)])
    distribution *= 0.5 / distribution[-1]
    half = (np.arange(_QUANTILES // 2) + 0.5) / _QUANTILES
    lower = np.interp(half, distribution, u) ** power
    return np.concatenate([lower, 1.0 - lower[::-1]])


def _outside_box(
    concentration: float, shape: Any, seed: int, view: Tensor, ids: Tensor, place: Tensor
) -> Tensor:
    """Where the sample stays: outside of a box of its partner's, `(batch, height, width, 1)`."""
    tf = import_tensorflow()
    # Yun et al. (2019) choose the box's area and centre; what lies beyond the edges is cut off.
    ratio = np.sqrt(1.0 - beta_quantiles(concentration))
    inside = []
    for axis, purpose in ((1, BOX_DOWN), (2, BOX_RIGHT)):
        length = int(shape[axis])
        half = tf.gather(tf.constant((length * ratio).astype(np.int32) // 2), place)
        centre = below(length, random_bits(seed, view, ids, purpose))
        index = tf.range(length)[tf.newaxis]
        after = index >= (centre - half)[:, tf.newaxis]
        inside.append(tf.logical_and(after, index < (centre + half)[:, tf.newaxis]))
    box = tf.logical_and(inside[0][:, :, tf.newaxis], inside[1][:, tf.newaxis, :])
    return tf.logical_not(box)[..., tf.newaxis]
