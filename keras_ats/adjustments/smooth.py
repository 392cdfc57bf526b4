"""Where the teacher is wrong, teach the smoothed label instead."""

import math

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.ops.absent_classes import LOG_OF_ZERO, present_classes
from keras_ats.ops.labels import label_indicator, top_class_indicator
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Smooth(Adjustment):
    r"""Logits Adjustment by label smoothing (LSR): a wrong teacher is not listened to.

    Where the teacher's top class is not the label, the soft targets become

    $$p_c = \epsilon \text{ if } c = y \text{ else } (1 - \epsilon) / (C - 1)$$

    whatever the temperature; elsewhere they stay. Classes that the teacher does not have, whose
    logit is minus infinity, get nothing and do not count. Ties, soft labels and ignored labels are
    as for `Swap`.

    Args:
        correct_probability: $\epsilon$, above 0 and below 1. Defaults to 0.9, the default of the
            only public code; the paper's own constant could not be found.

    Raises:
        ValueError: If `correct_probability` is not above 0 and below 1.

    Example:

    ```python
    loss = keras_ats.losses.TemperatureKD(4.0, adjustment=keras_ats.adjustments.Smooth(0.9))
    ```

    Reference: Wen, Lai, Qian, Neurocomputing 454, 2021, arXiv 1911.07471; targets agree with those
    of KD_Lib, a third party's code.
    """

    def __init__(self, correct_probability: float = 0.9) -> None:
        self.correct_probability = checks.positive_number(
            correct_probability, "correct_probability"
        )
        if correct_probability >= 1:
            raise ValueError(
                "`correct_probability` must be above 0 and below 1. Received: "
                f"correct_probability={correct_probability!r}. Try 0.9."
            )

    def adjust_targets(
        self, log_probabilities: Tensor, teacher_logits: Tensor, labels: Tensor
    ) -> Tensor:
        """Returns the log-targets, smoothed labels where the teacher is wrong, `(..., C)`."""
        label = label_indicator(labels, teacher_logits)
        others = ops.logical_and(present_classes(teacher_logits), ops.logical_not(label))
        count = ops.sum(ops.cast(others, "float32"), axis=-1, keepdims=True)
        share = math.log(1.0 - self.correct_probability) - ops.log(ops.maximum(count, 1.0))
        smoothed = ops.where(
            label, math.log(self.correct_probability), ops.where(others, share, LOG_OF_ZERO)
        )
        wrong = ops.any(
            ops.logical_and(label, ops.logical_not(top_class_indicator(teacher_logits))),
            axis=-1,
            keepdims=True,
        )
        return ops.where(wrong, smoothed, log_probabilities)
