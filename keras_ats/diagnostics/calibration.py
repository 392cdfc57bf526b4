"""How far confidence is from accuracy, on all samples at once: float64 NumPy."""

from typing import NamedTuple

import numpy as np

from keras_ats.diagnostics.logits import Said
from keras_ats.ops.absent_classes import LOG_OF_ZERO


class Calibration(NamedTuple):
    """What a reliability diagram shows.

    Attributes:
        error: Expected calibration error, 15 bins of equal width.
        adaptive_error: The same with 15 bins of equally many samples.
        bins: Mean confidence, accuracy and number of samples of each bin of equal width that has
            any, shape `(bins, 3)`.
    """

    error: float
    adaptive_error: float
    bins: np.ndarray


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns log-probabilities in float64."""
    scaled = np.maximum(logits.astype("float64"), LOG_OF_ZERO) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def likelihood(said: Said, temperature: float = 1.0) -> float:
    """Returns the mean negative log-likelihood of the labels at a temperature."""
    log_p = log_softmax(said.logits, temperature)
    return float(-np.take_along_axis(log_p, said.labels[:, None], -1).mean())


def best_temperature(said: Said) -> float:
    """Returns the one temperature, from 0.05 to 50, with the best likelihood.

    The negative log-likelihood is convex in the inverse temperature: where its slope changes sign
    is the only minimum.
    """
    low, high = np.log(0.05), np.log(50.0)
    own = np.take_along_axis(said.logits, said.labels[:, None], -1)[:, 0].astype("float64")
    while high - low > 1e-3:
        middle = (low + high) / 2
        # The slope: what the model expects of the logits, less what the labels have.
        if np.mean(_expected_logit(said.logits, np.exp(middle)) - own) > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def calibrate(said: Said, temperature: float = 1.0, bins: int = 15) -> Calibration:
    """Holds the confidence at a temperature against the accuracy.

    Args:
        said: Logits and labels.
        temperature: Above 0. Defaults to 1.
        bins: Number of bins. Defaults to 15.
    """
    log_p = log_softmax(said.logits, temperature)
    confidence = np.exp(log_p.max(axis=-1))
    right = log_p.argmax(axis=-1) == said.labels
    place = np.minimum(np.floor(confidence * bins).astype("int64"), bins - 1)
    equal = _bin_means(confidence, right, place)
    order = np.empty(len(confidence), "int64")
    order[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    adaptive = _bin_means(confidence, right, order * bins // len(confidence))
    return Calibration(_error(equal), _error(adaptive), equal)


def _expected_logit(logits: np.ndarray, temperature: float) -> np.ndarray:
    present = np.maximum(logits, LOG_OF_ZERO)
    terms = present / np.float32(temperature)
    terms -= terms.max(axis=-1, keepdims=True)
    np.exp(terms, out=terms)
    return np.einsum("nc,nc->n", terms, present) / terms.sum(-1)


def _bin_means(confidence: np.ndarray, right: np.ndarray, place: np.ndarray) -> np.ndarray:
    counts = np.bincount(place)
    sums = [np.bincount(place, weights=each) for each in (confidence, right)]
    there = counts > 0
    return np.stack([*(each[there] / counts[there] for each in sums), counts[there]], axis=-1)


def _error(bins: np.ndarray) -> float:
    return float((np.abs(bins[:, 0] - bins[:, 1]) * bins[:, 2]).sum() / bins[:, 2].sum())
