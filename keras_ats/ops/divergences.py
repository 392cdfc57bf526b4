r"""Distances between two distributions, from their log-probabilities, one value per position.

A class that neither has, log-probability minus infinity on both sides, adds nothing to any of them
and gets no gradient. One that only $p$ has makes $H(p, q)$ and $KL(p \| q)$ infinite: here they are
a finite $10^{30}$ times its probability or so, and the gradient of the other classes is as ever.
"""

from keras import ops

from keras_ats.checks import inner_fraction
from keras_ats.ops.absent_classes import LOG_OF_ZERO, LOG_PROBABILITY_OF_ZERO, finite_logits
from keras_ats.ops.arguments import as_factor, as_rows, check_same_rows
from keras_ats.types import Tensor


def cross_entropy(target_log_probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    r"""Cross-entropy $H(p, q) = -\sum_c p_c \log q_c$, in nats.

    Args:
        target_log_probabilities: $\log p$, shape `(..., C)`.
        log_probabilities: $\log q$, shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    log_half = np.log([[0.5, 0.5]])
    keras_ats.ops.cross_entropy(log_half, log_half)  # [log 2]
    ```
    """
    log_targets, log_answers = _both(target_log_probabilities, log_probabilities)
    return -ops.sum(ops.exp(log_targets) * log_answers, axis=-1)


def kl_divergence(target_log_probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence $KL(p \| q) = \sum_c p_c (\log p_c - \log q_c)$, in nats.

    Zero where the two agree; its gradient in $q$ is that of the cross-entropy.

    Args:
        target_log_probabilities: $\log p$, shape `(..., C)`.
        log_probabilities: $\log q$, shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    log_half = np.log([[0.5, 0.5]])
    keras_ats.ops.kl_divergence(log_half, log_half)  # [0]
    ```
    """
    log_targets, log_answers = _both(target_log_probabilities, log_probabilities)
    return _kl_divergence(log_targets, log_answers)


def reverse_kl_divergence(target_log_probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    r"""Reverse divergence $KL(q \| p)$, which lets the student ignore minor modes, in nats.

    Args:
        target_log_probabilities: $\log p$, shape `(..., C)`.
        log_probabilities: $\log q$, shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    log_half = np.log([[0.5, 0.5]])
    keras_ats.ops.reverse_kl_divergence(log_half, log_half)  # [0]
    ```
    """
    log_targets, log_answers = _both(target_log_probabilities, log_probabilities)
    return _kl_divergence(log_answers, log_targets)


def jensen_shannon_divergence(
    target_log_probabilities: Tensor, log_probabilities: Tensor, target_weight: Tensor = 0.5
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence, in nats: finite whatever the two say.

    $$\beta \, KL(p \| m) + (1 - \beta) \, KL(q \| m), \qquad m = \beta p + (1 - \beta) q$$

    at most $\log 2$. As $\beta$ goes to 0 it tends to $\beta \, KL(p \| q)$, as it goes to 1 to
    $(1 - \beta) \, KL(q \| p)$.

    Args:
        target_log_probabilities: $\log p$, shape `(..., C)`.
        log_probabilities: $\log q$, shape `(..., C)`.
        target_weight: $\beta$ above 0 and below 1, a scalar. Defaults to 0.5.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    yes, no = np.array([[0.0, -np.inf]]), np.array([[-np.inf, 0.0]])
    keras_ats.ops.jensen_shannon_divergence(yes, no)  # [log 2]
    ```

    Reference: Lin, "Divergence Measures Based on the Shannon Entropy", 1991; with its weight,
    Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024, arXiv 2306.13649.
    """
    log_targets, log_answers = _both(target_log_probabilities, log_probabilities)
    weight = as_factor(target_weight, "target_weight", (), inner_fraction)
    mixture = ops.logaddexp(log_targets + ops.log(weight), log_answers + ops.log1p(-weight))
    return weight * _kl_divergence(log_targets, mixture) + (1.0 - weight) * _kl_divergence(
        log_answers, mixture
    )


def bernoulli_kl_divergence(target_logits: Tensor, logits: Tensor) -> Tensor:
    r"""Divergence between yes-or-no answers, one per class, summed over classes, in nats.

    $$\sum_c p_c \log \frac{p_c}{q_c} + (1 - p_c) \log \frac{1 - p_c}{1 - q_c}, \quad
    p = \sigma(f), \; q = \sigma(z)$$

    for sigmoid heads, whose classes do not exclude each other. A logit of minus infinity is a sure
    no, one of plus infinity a sure yes.

    Args:
        target_logits: $f$, shape `(..., C)`; any number of classes, one included.
        logits: $z$, shape `(..., C)`.

    Returns:
        float32 tensor of shape `(...,)`.

    Example:

    ```python
    keras_ats.ops.bernoulli_kl_divergence(np.array([[2.0, 0.0]]), np.array([[2.0, 0.0]]))  # [0]
    ```
    """
    target_logits, logits = (
        ops.clip(as_rows(side, name), LOG_OF_ZERO, -LOG_OF_ZERO)
        for side, name in ((target_logits, "target_logits"), (logits, "logits"))
    )
    check_same_rows(target_logits, logits, "target_logits", "logits")
    yes = ops.sigmoid(target_logits) * (ops.log_sigmoid(target_logits) - ops.log_sigmoid(logits))
    # `1 - sigmoid(f)` has no digits left for a sure teacher; `sigmoid(-f)` has them all.
    no = ops.sigmoid(-target_logits) * (ops.log_sigmoid(-target_logits) - ops.log_sigmoid(-logits))
    return ops.sum(yes + no, axis=-1)


def _both(target_log_probabilities: Tensor, log_probabilities: Tensor) -> tuple[Tensor, Tensor]:
    names = "target_log_probabilities", "log_probabilities"
    log_targets, log_answers = (
        finite_logits(side, name, LOG_PROBABILITY_OF_ZERO)
        for side, name in zip((target_log_probabilities, log_probabilities), names, strict=True)
    )
    check_same_rows(log_targets, log_answers, *names)
    return log_targets, log_answers


def _kl_divergence(log_targets: Tensor, log_answers: Tensor) -> Tensor:
    return ops.sum(ops.exp(log_targets) * (log_targets - log_answers), axis=-1)
