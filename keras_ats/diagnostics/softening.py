r"""What soft targets look like at a temperature, or under ATS: means over all samples.

All of it follows from the softmax over the wrong classes alone, $\tilde q$, and the share $q_y$ of
the correct one: $e = (1 - q_y) / (C - 1)$, $v = (C - 1)^2 e^2 v(\tilde q)$, and the entropy is
that of $(q_y, 1 - q_y)$ plus $(1 - q_y)$ times that of $\tilde q$. So one pass over the wrong
classes gives every number, in float64, and for any correct temperature.
"""

from typing import NamedTuple

import numpy as np

from keras_ats.diagnostics.logits import Said
from keras_ats.ops.absent_classes import LOG_OF_ZERO

_ENTRIES = 4_000_000  # of one piece: 32 MB in float64


class Softening(NamedTuple):
    r"""Means over samples of what a pair of temperatures makes of the logits.

    Attributes:
        correct_temperature: Of the correct class.
        wrong_temperature: Of the others; the same for one temperature.
        correct_share: Mean probability of the correct class.
        derived_average: Mean $e(q)$.
        derived_deviation: Mean $\sqrt{v(q)}$, as the paper's figures show it.
        derived_variance: Mean $v(q)$.
        inherent_variance: Mean $v(\tilde q)$.
        entropy: Mean entropy in nats.
    """

    correct_temperature: float
    wrong_temperature: float
    correct_share: float
    derived_average: float
    derived_deviation: float
    derived_variance: float
    inherent_variance: float
    entropy: float


class WrongClasses(NamedTuple):
    """The wrong classes of each sample at a temperature, float64 arrays of shape `(N,)`.

    Attributes:
        temperature: Of the wrong classes.
        log_total: Logarithm of the sum of their exponentials.
        variance: Variance of the softmax over them.
        entropy: Entropy of that softmax.
    """

    temperature: float
    log_total: np.ndarray
    variance: np.ndarray
    entropy: np.ndarray


def wrong_classes(said: Said, temperature: float) -> WrongClasses:
    """Looks at the wrong classes of all samples.

    Args:
        said: Logits and labels.
        temperature: Of the wrong classes, above 0.
    """
    pieces = [_wrong_classes(piece, temperature) for piece in in_pieces(said)]
    return WrongClasses(temperature, *(np.concatenate(each) for each in zip(*pieces, strict=True)))


def log_odds(said: Said, wrong: WrongClasses, correct_temperature: float) -> np.ndarray:
    """Returns the logarithm of the odds of each sample's correct class, shape `(N,)`."""
    own = np.take_along_axis(said.logits, said.labels[:, None], -1)[:, 0].astype("float64")
    return np.maximum(own, LOG_OF_ZERO) / correct_temperature - wrong.log_total


def soften(said: Said, correct_temperature: float, wrong_temperature: float) -> Softening:
    """Softens all logits and averages what comes of it.

    Args:
        said: Logits and labels.
        correct_temperature: Of the correct class, above 0.
        wrong_temperature: Of the others, above 0.
    """
    wrong = wrong_classes(said, wrong_temperature)
    odds = log_odds(said, wrong, correct_temperature)
    count = said.logits.shape[-1] - 1
    log_right, log_left = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    right, left = np.exp(log_right), np.exp(log_left)
    deviation = left * np.sqrt(wrong.variance)
    entropy = left * wrong.entropy - right * log_right - left * log_left
    return Softening(
        correct_temperature,
        wrong_temperature,
        *(
            float(values.mean())
            for values in (right, left / count, deviation, deviation**2, wrong.variance, entropy)
        ),
    )


def soft_targets(said: Said, correct_temperature: float, wrong_temperature: float) -> np.ndarray:
    """Returns the soft targets themselves, float64, shape `(N, C)`."""
    scaled = np.maximum(said.logits.astype("float64"), LOG_OF_ZERO)
    own = np.take_along_axis(scaled, said.labels[:, None], -1)
    scaled /= wrong_temperature
    np.put_along_axis(scaled, said.labels[:, None], own / correct_temperature, -1)
    scaled -= scaled.max(axis=-1, keepdims=True)
    np.exp(scaled, out=scaled)
    return scaled / scaled.sum(axis=-1, keepdims=True)


def is_wrong(said: Said) -> np.ndarray:
    """Returns which classes are wrong, bool, shape `(N, C)`."""
    wrong = np.ones(said.logits.shape, bool)
    np.put_along_axis(wrong, said.labels[:, None], False, -1)
    return wrong


def in_pieces(said: Said) -> list[Said]:
    """Returns the same in pieces that fit into memory several times."""
    rows = max(1, _ENTRIES // said.logits.shape[-1])
    return [
        Said(said.logits[start : start + rows], said.labels[start : start + rows])
        for start in range(0, len(said.labels), rows)
    ]


def _wrong_classes(said: Said, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits = np.maximum(said.logits.astype("float64"), LOG_OF_ZERO)
    np.put_along_axis(logits, said.labels[:, None], LOG_OF_ZERO, -1)
    logits /= temperature
    highest = logits.max(axis=-1)
    logits -= highest[:, None]
    terms = np.exp(logits)
    total = terms.sum(-1)
    squares, products = (np.einsum("nc,nc->n", terms, other) for other in (terms, logits))
    count = said.logits.shape[-1] - 1
    variance = np.maximum(squares / total**2 / count - 1 / count**2, 0.0)
    return highest + np.log(total), variance, np.log(total) - products / total
