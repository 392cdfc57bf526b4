"""Distances between two distributions, from their log-probabilities, one value per position."""

from keras import ops

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
    targets = ops.exp(ops.cast(target_log_probabilities, "float32"))
    return -ops.sum(targets * ops.cast(log_probabilities, "float32"), axis=-1)


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
    log_targets = ops.cast(target_log_probabilities, "float32")
    difference = log_targets - ops.cast(log_probabilities, "float32")
    return ops.sum(ops.exp(log_targets) * difference, axis=-1)


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
    return kl_divergence(log_probabilities, target_log_probabilities)


def bernoulli_kl_divergence(target_logits: Tensor, logits: Tensor) -> Tensor:
    r"""Divergence between yes-or-no answers, one per class, summed over classes, in nats.

    $$\sum_c p_c \log \frac{p_c}{q_c} + (1 - p_c) \log \frac{1 - p_c}{1 - q_c}, \quad
    p = \sigma(f), \; q = \sigma(z)$$

    for sigmoid heads, whose classes do not exclude each other.

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
    target_logits, logits = ops.cast(target_logits, "float32"), ops.cast(logits, "float32")
    yes = ops.sigmoid(target_logits) * (ops.log_sigmoid(target_logits) - ops.log_sigmoid(logits))
    # `1 - sigmoid(f)` has no digits left for a sure teacher; `sigmoid(-f)` has them all.
    no = ops.sigmoid(-target_logits) * (ops.log_sigmoid(-target_logits) - ops.log_sigmoid(-logits))
    return ops.sum(yes + no, axis=-1)
