"""Softmax by groups of classes: the label against the rest, or some of the classes alone."""

from keras import ops

from keras_ats.checks import non_negative_number
from keras_ats.ops.absent_classes import LOG_OF_ZERO, finite_logits, present_classes
from keras_ats.ops.arguments import as_factor, as_rows
from keras_ats.ops.labels import are_class_ids, class_of_label, label_distribution
from keras_ats.types import Tensor


def weighted_log_softmax(logits: Tensor, weights: Tensor, temperature: Tensor = 1.0) -> Tensor:
    r"""Log-probabilities in which each class counts with a weight of its own.

    $$\log p_c = \log w_c + f_c / \tau - \log \sum_j w_j \exp(f_j / \tau)$$

    A weight of 0 leaves the class out, before the largest logit is taken: it may be as large as it
    likes without making the others underflow. So does a logit of minus infinity.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        weights: At least 0, anything that broadcasts against `logits`. A row may be all 0.
        temperature: Above 0, a scalar or one value per sample `(..., 1)`. Defaults to 1.

    Returns:
        float32 tensor of shape `(..., C)`; a huge negative number, whose exponential is 0, for
        classes that are left out.

    Example:

    ```python
    keras_ats.ops.weighted_log_softmax([[9.0, 0.0, 0.0]], [0.0, 1.0, 1.0])  # [-1e30, -0.69, -0.69]
    ```
    """
    logits = _softened(logits, temperature)
    weights = as_factor(weights, "weights", logits.shape, non_negative_number)
    return _log_softmax_of(*_weighted_terms(logits, weights))


def chosen_log_softmax(logits: Tensor, chosen: Tensor, temperature: Tensor = 1.0) -> Tensor:
    """The same for weights that are True and False, in fewer passes; both `(..., C)`."""
    logits = _softened(logits, temperature)
    return _log_softmax_of(ops.logical_and(chosen, present_classes(logits)), logits)


def _log_softmax_of(present: Tensor, terms: Tensor) -> Tensor:
    terms = ops.where(present, terms, LOG_OF_ZERO)
    return ops.where(present, ops.log_softmax(terms, axis=-1), LOG_OF_ZERO)


def wrong_class_log_softmax(logits: Tensor, labels: Tensor, temperature: Tensor = 1.0) -> Tensor:
    r"""Log-probabilities of the wrong classes alone, as if the label were no class at all.

    $$\log \hat p_c = f_c / \tau - \log \sum_{j \ne y} \exp(f_j / \tau), \quad c \ne y$$

    With a soft label all classes are wrong in part, class $c$ with weight $1 - y_c$.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        temperature: Above 0, a scalar or one value per sample `(..., 1)`. Defaults to 1.

    Returns:
        float32 tensor of shape `(..., C)`; a huge negative number, whose exponential is 0, at the
        label.

    Raises:
        ValueError: If the labels' shape does not fit the logits'.

    Example:

    ```python
    keras_ats.ops.wrong_class_log_softmax([[9.0, 0.0, 0.0]], [0])  # [-1e30, -0.69, -0.69]
    ```

    Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679.
    """
    logits = as_rows(logits, "logits")
    if are_class_ids(labels, logits):
        classes = ops.arange(logits.shape[-1], dtype="int32")
        return chosen_log_softmax(logits, class_of_label(labels, logits) != classes, temperature)
    return weighted_log_softmax(logits, 1.0 - label_distribution(labels, logits), temperature)


def correct_wrong_log_softmax(logits: Tensor, labels: Tensor, temperature: Tensor = 1.0) -> Tensor:
    r"""Log-probability of the correct class, and of all the wrong ones together.

    $$\big(\log p_y, \; \log \sum_{c \ne y} p_c\big), \quad p = \mathrm{softmax}(f / \tau)$$

    With a soft label class $c$ is correct with weight $y_c$ and wrong with weight $1 - y_c$.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        temperature: Above 0, a scalar or one value per sample `(..., 1)`. Defaults to 1.

    Returns:
        float32 tensor of shape `(..., 2)`.

    Raises:
        ValueError: If the labels' shape does not fit the logits'.

    Example:

    ```python
    keras_ats.ops.correct_wrong_log_softmax(np.zeros((1, 4)), [0])  # log of [1/4, 3/4]
    ```

    Reference: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679.
    """
    logits = _softened(logits, temperature)
    if are_class_ids(labels, logits):
        groups = _of_class(logits, class_of_label(labels, logits))
    else:
        distribution = label_distribution(labels, logits)
        groups = [_weighted_total(logits, part) for part in (distribution, 1.0 - distribution)]
    # A softmax of the groups' totals. `log(1 - p_y)` would have no digits left for a sure teacher.
    return ops.log_softmax(ops.stack(groups, axis=-1), axis=-1)


def _softened(logits: Tensor, temperature: Tensor) -> Tensor:
    logits = finite_logits(logits)
    return logits / as_factor(temperature, "temperature", logits.shape)


def _of_class(logits: Tensor, chosen: Tensor) -> list[Tensor]:
    """The logit of a class `(..., 1)`, -1 for none, and the log of the others' total."""
    # An exponential that underflows takes torch ten times as long on a CPU: a sum of one is none.
    own = ops.take_along_axis(logits, ops.maximum(chosen, 0), axis=-1)
    own = ops.where(ops.logical_and(chosen >= 0, present_classes(own)), own, LOG_OF_ZERO)
    classes = ops.arange(logits.shape[-1], dtype="int32")
    others = ops.logical_and(chosen != classes, present_classes(logits))
    total = ops.logsumexp(ops.where(others, logits, LOG_OF_ZERO), axis=-1)
    return [ops.squeeze(own, axis=-1), total]


def _weighted_total(logits: Tensor, weights: Tensor) -> Tensor:
    """The log of the weighted sum."""
    present, terms = _weighted_terms(logits, weights)
    return ops.logsumexp(ops.where(present, terms, LOG_OF_ZERO), axis=-1)


def _weighted_terms(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Which classes count, and the logarithm of each term of the weighted sum."""
    present = ops.logical_and(weights > 0, present_classes(logits))
    return present, logits + ops.log(ops.where(present, weights, 1.0))
