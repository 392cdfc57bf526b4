"""The formulas in float64 NumPy, written from the papers and independent of the package."""

import numpy as np


def label_distribution(labels, logits):
    labels = np.asarray(labels)
    if labels.shape == np.shape(logits):
        return labels.astype("float64")
    ids = labels.reshape(np.shape(logits)[:-1])
    return (ids[..., None] == np.arange(np.shape(logits)[-1])).astype("float64")


def log_softmax(logits, temperature=1.0):
    scaled = np.asarray(logits, "float64") / np.asarray(temperature, "float64")
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def softmax(logits, temperature=1.0):
    return np.exp(log_softmax(logits, temperature))


def asymmetric_temperature(labels, logits, correct, wrong):
    distribution = label_distribution(labels, logits)
    return distribution * correct + (1 - distribution) * wrong


def asymmetric_log_softmax(logits, labels, correct, wrong):
    return log_softmax(logits, asymmetric_temperature(labels, logits, correct, wrong))


def asymmetric_softmax(logits, labels, correct, wrong):
    return np.exp(asymmetric_log_softmax(logits, labels, correct, wrong))


def cross_entropy(log_p, log_q):
    return -(np.exp(log_p) * log_q).sum(axis=-1)


def kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def reverse_kl(log_p, log_q):
    return kl(log_q, log_p)


def derived_average(probabilities, ids):
    return _wrong_classes(probabilities, ids).mean(axis=-1)


def derived_variance(probabilities, ids):
    return _wrong_classes(probabilities, ids).var(axis=-1)


def inherent_variance(logits, ids, temperature=1.0):
    return softmax(_wrong_classes(logits, ids), temperature).var(axis=-1)


def decomposition(p, log_q, ids):
    """Correct guidance, smooth regularisation, class discriminability."""
    ids = np.asarray(ids)[..., None]
    correct = -np.take_along_axis(p * log_q, ids, axis=-1)[..., 0]
    wrong_p, wrong_log_q = _wrong_classes(p, ids[..., 0]), _wrong_classes(log_q, ids[..., 0])
    average = wrong_p.mean(axis=-1, keepdims=True)
    return (
        correct,
        -(average * wrong_log_q).sum(axis=-1),
        -((wrong_p - average) * wrong_log_q).sum(axis=-1),
    )


def label_crossentropy(labels, logits):
    """Value of each position and its gradient in the logits."""
    distribution = label_distribution(labels, logits)
    return -(distribution * log_softmax(logits)).sum(axis=-1), softmax(logits) - distribution


def soft_target_kd(student_logits, log_p, student_temperature=1.0, divergence="kl"):
    """`student_temperature**2 * D(p, q)` of each position and its gradient in the student's logits.

    The temperature is a scalar or has shape `(..., 1)`.
    """
    log_q = log_softmax(student_logits, student_temperature)
    q = np.exp(log_q)
    distance = {"kl": kl, "cross_entropy": cross_entropy, "reverse_kl": reverse_kl}[divergence]
    values = distance(log_p, log_q)[..., None]
    slope = q * (log_q - log_p - values) if divergence == "reverse_kl" else q - np.exp(log_p)
    return (student_temperature**2 * values)[..., 0], student_temperature * slope


def kd(student_logits, teacher_logits, temperature, divergence="kl"):
    log_p = log_softmax(teacher_logits, temperature)
    return soft_target_kd(student_logits, log_p, temperature, divergence)


def ats(student_logits, teacher_logits, labels, correct, wrong, student_temperature=1.0):
    log_p = asymmetric_log_softmax(teacher_logits, labels, correct, wrong)
    return soft_target_kd(student_logits, log_p, student_temperature, "cross_entropy")


def _wrong_classes(values, ids):
    """All classes but the correct one, shape `(..., C - 1)`."""
    values = np.asarray(values, "float64")
    wrong = label_distribution(ids, values) == 0
    return values[wrong].reshape(*values.shape[:-1], values.shape[-1] - 1)
