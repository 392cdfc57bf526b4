r"""Statistics of a teacher's wrong classes, which decide how well it teaches.

With $e(q)$ the derived average, $v(q)$ the derived variance and $v(\tilde q)$ the inherent
variance, $v(q) = (C-1)^2 \, e(q)^2 \, v(\tilde q)$ holds exactly: one temperature moves both
factors, ATS sets them one by one.

The wrong classes of a soft label are all classes, class $c$ with weight $1 - y_c$; these weights
sum to $C - 1$, and for a one-hot label they pick exactly the wrong classes.
"""

from typing import NamedTuple

from keras import ops

from keras_ats.ops.absent_classes import (
    LOG_PROBABILITY_OF_ZERO,
    finite_logits,
    present_classes,
)
from keras_ats.ops.arguments import as_factor, as_rows, check_same_rows
from keras_ats.ops.labels import label_distribution
from keras_ats.types import Tensor


def derived_average(probabilities: Tensor, labels: Tensor) -> Tensor:
    r"""Mean probability of the wrong classes, $e(q) = (1 - p_y) / (C - 1)$.

    Computed as the mean of the others: `1 - p_y` would lose all digits for a confident teacher.

    Args:
        probabilities: Tensor of shape `(..., C)`, rows summing to 1.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    keras_ats.ops.derived_average(np.array([[0.8, 0.2, 0.0]]), [0])  # [0.1]
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """
    probabilities = as_rows(probabilities, "probabilities")
    wrong = 1.0 - label_distribution(labels, probabilities)
    return ops.sum(wrong * probabilities, axis=-1) / (probabilities.shape[-1] - 1)


def derived_variance(probabilities: Tensor, labels: Tensor) -> Tensor:
    r"""Population variance of the wrong classes' probabilities, $v(q)$.

    Args:
        probabilities: Tensor of shape `(..., C)`, rows summing to 1.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`; 0 for two classes.

    Example:

    ```python
    keras_ats.ops.derived_variance(np.array([[0.8, 0.2, 0.0]]), [0])  # [0.01]
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427. Its figures show the square root.
    """
    probabilities = as_rows(probabilities, "probabilities")
    return _wrong_class_variance(probabilities, label_distribution(labels, probabilities))


def inherent_variance(logits: Tensor, labels: Tensor, temperature: Tensor = 1.0) -> Tensor:
    r"""Population variance of the softmax over the wrong classes alone, $v(\tilde q)$.

    Under ATS only the wrong-class temperature moves it. Absent classes, whose logit is minus
    infinity, count as classes of probability 0.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        temperature: Above 0, the wrong classes' temperature: a scalar or `(..., 1)`. Defaults to 1.

    Returns:
        float32 tensor of shape `(...,)`; 0 for two classes.

    Example:

    ```python
    keras_ats.ops.inherent_variance(np.array([[9.0, 0.0, 0.0]]), [0])  # [0]
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """
    logits = finite_logits(logits)
    logits = logits / as_factor(temperature, "temperature", logits.shape)
    distribution = label_distribution(labels, logits)
    wrong = 1.0 - distribution
    lowest = ops.min(logits, axis=-1, keepdims=True)
    # Leaving the label's own logit in would decide the maximum and underflow all the others.
    highest = ops.max(ops.where(wrong > 0, logits, lowest), axis=-1, keepdims=True)
    terms = ops.exp(ops.minimum(logits - highest, 0.0))
    total = ops.sum(wrong * terms, axis=-1, keepdims=True)
    return _wrong_class_variance(terms / total, distribution)


class KDParts(NamedTuple):
    """The three parts that a soft-target cross-entropy consists of, each of shape `(...,)`."""

    correct_guidance: Tensor
    smooth_regularization: Tensor
    class_discriminability: Tensor


def decompose_kd(
    target_probabilities: Tensor, student_log_probabilities: Tensor, labels: Tensor
) -> KDParts:
    r"""Splits the cross-entropy with soft targets into what each part of them teaches.

    $$H(p, q) = -p_y \log q_y \;-\; e \sum_{c \ne y} \log q_c \;-\;
    \sum_{c \ne y} (p_c - e) \log q_c$$

    with $e$ the derived average: correct guidance, smooth regularisation, class discriminability.
    Classes that neither side has, of probability 0 in both, are left out of all three.

    Args:
        target_probabilities: $p$, shape `(..., C)`, rows summing to 1.
        student_log_probabilities: $\log q$, shape `(..., C)`.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.

    Returns:
        `KDParts` of three float32 tensors of shape `(...,)` that sum to the cross-entropy.

    Example:

    ```python
    keras_ats.ops.decompose_kd(np.array([[0.8, 0.2, 0.0]]), np.log([[0.6, 0.3, 0.1]]), [0])
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """
    names = "target_probabilities", "student_log_probabilities"
    targets = as_rows(target_probabilities, names[0])
    student = finite_logits(student_log_probabilities, names[1], LOG_PROBABILITY_OF_ZERO)
    check_same_rows(targets, student, *names)
    distribution = label_distribution(labels, targets)
    absent = ops.logical_not(ops.logical_or(present_classes(student), targets > 0))
    wrong = ops.where(absent, 0.0, 1.0 - distribution)
    count = targets.shape[-1] - 1 - ops.sum(ops.cast(absent, "float32"), axis=-1)
    average = ops.sum(wrong * targets, axis=-1) / ops.maximum(count, 1.0)
    return KDParts(
        correct_guidance=-ops.sum(distribution * targets * student, axis=-1),
        smooth_regularization=-average * ops.sum(wrong * student, axis=-1),
        class_discriminability=-ops.sum(
            wrong * (targets - ops.expand_dims(average, -1)) * student, axis=-1
        ),
    )


def _wrong_class_variance(probabilities: Tensor, distribution: Tensor) -> Tensor:
    wrong = 1.0 - distribution
    count = probabilities.shape[-1] - 1
    average = ops.sum(wrong * probabilities, axis=-1, keepdims=True) / count
    return ops.sum(wrong * ops.square(probabilities - average), axis=-1) / count
