"""Softmax at a temperature: one for all classes, or one for the correct class and one for the rest.

The formula of Asymmetric Temperature Scaling is `asymmetric_temperature` below.
"""

from keras import ops

from keras_ats.ops.absent_classes import finite_logits
from keras_ats.ops.arguments import as_factor, as_rows
from keras_ats.ops.labels import label_distribution
from keras_ats.types import Tensor


def temperature_log_softmax(logits: Tensor, temperature: Tensor = 1.0) -> Tensor:
    r"""Log-probabilities of softened logits, in float32.

    $$\log p_c = f_c / \tau_c - \log \sum_j \exp(f_j / \tau_j)$$

    A class whose logit is minus infinity (a padded vocabulary, a masked class) is absent: the
    result is that of the other classes, and no gradient reaches it.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        temperature: Above 0, anything that broadcasts against `logits`: a scalar, one value per
            sample `(..., 1)`, or one per class `(..., C)`. Defaults to 1.

    Returns:
        float32 tensor of shape `(..., C)`; a huge negative number, whose exponential is 0, for
        absent classes. Where all are absent, the same for each.

    Example:

    ```python
    keras_ats.ops.temperature_log_softmax([[2.0, 0.0]], temperature=4.0)
    ```

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    # Made finite before the division, whose gradient in a learned temperature would be infinite.
    logits = finite_logits(logits)
    softened = logits / as_factor(temperature, "temperature", logits.shape)
    return ops.log_softmax(softened, axis=-1)


def temperature_softmax(logits: Tensor, temperature: Tensor = 1.0) -> Tensor:
    """Probabilities of softened logits, in float32.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        temperature: As for `temperature_log_softmax`. Defaults to 1.

    Returns:
        float32 tensor of shape `(..., C)`, rows summing to 1.

    Example:

    ```python
    keras_ats.ops.temperature_softmax([[2.0, 0.0]], temperature=4.0)
    ```

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    return ops.exp(temperature_log_softmax(logits, temperature))


def asymmetric_temperature(
    labels: Tensor, logits: Tensor, correct_temperature: Tensor, wrong_temperature: Tensor
) -> Tensor:
    r"""The temperature that ATS gives each class of each sample.

    $$\tau_c = y_c \, \tau_1 + (1 - y_c) \, \tau_2$$

    For one-hot labels this is the paper's rule, $\tau_1$ on the correct class and $\tau_2$ on the
    others; it stays defined for soft labels (mixup, CutMix, label smoothing).

    Args:
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        logits: Tensor of shape `(..., C)`; only its shape is used.
        correct_temperature: $\tau_1 > 0$, a scalar or one value per sample `(..., 1)`.
        wrong_temperature: $\tau_2 > 0$, likewise.

    Returns:
        float32 tensor of shape `(..., C)`.

    Example:

    ```python
    keras_ats.ops.asymmetric_temperature([1], np.zeros((1, 3)), 4.0, 2.0)  # [[2, 4, 2]]
    ```

    Reference: Li et al., "Asymmetric Temperature Scaling Makes Larger Networks Teach Well Again",
    NeurIPS 2022, arXiv 2210.04427.
    """
    distribution = label_distribution(labels, logits)
    correct = as_factor(correct_temperature, "correct_temperature", distribution.shape)
    wrong = as_factor(wrong_temperature, "wrong_temperature", distribution.shape)
    return distribution * correct + (1.0 - distribution) * wrong


def asymmetric_log_softmax(
    logits: Tensor, labels: Tensor, correct_temperature: Tensor, wrong_temperature: Tensor
) -> Tensor:
    r"""Log-probabilities under Asymmetric Temperature Scaling, in float32.

    An over-confident teacher leaves the wrong classes next to nothing to tell apart. A higher
    temperature on the correct class takes confidence away from it; a lower one on the wrong
    classes keeps them distinct.

    $$\log p_c = f_c / \tau_c - \log \sum_j \exp(f_j / \tau_j),
    \qquad \tau_c = \tau_1 \text{ if } c = y \text{ else } \tau_2$$

    Unlike a softmax at one temperature this is **not** invariant to adding a constant to all
    logits of a sample: it needs the logits themselves, never (log-)probabilities.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        correct_temperature: $\tau_1 > 0$, a scalar or one value per sample `(..., 1)`.
        wrong_temperature: $\tau_2 > 0$, likewise; the paper intends $\tau_1 > \tau_2$.

    Returns:
        float32 tensor of shape `(..., C)`.

    Raises:
        ValueError: If the labels' shape does not fit the logits'.

    Example:

    ```python
    keras_ats.ops.asymmetric_log_softmax([[9.0, 1.0, 0.0]], [0], 4.0, 2.0)
    ```

    Reference: Li et al., "Asymmetric Temperature Scaling Makes Larger Networks Teach Well Again",
    NeurIPS 2022, arXiv 2210.04427.
    """
    logits = as_rows(logits, "logits")
    return temperature_log_softmax(
        logits,
        asymmetric_temperature(labels, logits, correct_temperature, wrong_temperature),
    )


def asymmetric_softmax(
    logits: Tensor, labels: Tensor, correct_temperature: Tensor, wrong_temperature: Tensor
) -> Tensor:
    """Probabilities under Asymmetric Temperature Scaling, in float32.

    See `asymmetric_log_softmax` for the formula.

    Args:
        logits: Float tensor of shape `(..., C)`, any float dtype.
        labels: Ids of shape `(...,)` or `(..., 1)`, or rows of shape `(..., C)`.
        correct_temperature: Above 0, a scalar or one value per sample `(..., 1)`.
        wrong_temperature: Above 0, likewise.

    Returns:
        float32 tensor of shape `(..., C)`, rows summing to 1.

    Raises:
        ValueError: If the labels' shape does not fit the logits'.

    Example:

    ```python
    keras_ats.ops.asymmetric_softmax([[9.0, 1.0, 0.0]], [0], 4.0, 2.0)
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """
    return ops.exp(asymmetric_log_softmax(logits, labels, correct_temperature, wrong_temperature))
