"""Noise-contrastive estimation: telling a sample's partner from others drawn at random."""

import math

from keras import ops

from keras_ats.types import Tensor


def noise_contrast(scores: Tensor, log_normalizer: Tensor, samples: int) -> Tensor:
    r"""Returns the loss of telling the first score from the others.

    $$-\log \frac{p_0}{p_0 + c} - \sum_k \log \frac{K / N}{p_k + c}, \qquad
    p = e^{s} / Z, \quad c = K / N + 10^{-7}$$

    Args:
        scores: Tensor of shape `(B, K + 1)`, the partner's first.
        log_normalizer: $\log Z$.
        samples: $N$, from how many the others were drawn.

    Returns:
        float32 tensor of shape `(B,)`.
    """
    share = (scores.shape[-1] - 1) / samples
    log_offset = math.log(share + 1e-7)
    odds = scores - log_normalizer - log_offset
    rest = ops.sum(ops.softplus(odds[:, 1:]), axis=-1)
    constant = (scores.shape[-1] - 1) * (log_offset - math.log(share))
    return ops.softplus(-odds[:, 0]) + rest + constant


def log_mean_exp(scores: Tensor) -> Tensor:
    """Returns the log of the mean of exponentials of all scores."""
    largest = ops.max(scores)
    return largest + ops.log(ops.mean(ops.exp(scores - largest)))
