"""Several adjustments, one after the other."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.checks import as_list
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Chain(Adjustment):
    """Adjusts by each rule in turn; what `adjustment=[first, second]` stands for.

    Args:
        adjustments: The rules, the first one first; at least one.

    Raises:
        TypeError: If one of them is not an adjustment.
        ValueError: If there are none.

    Example:

    ```python
    from keras_ats.adjustments import Chain, Standardize, Swap

    loss = keras_ats.losses.TemperatureKD(2.0, adjustment=Chain([Standardize(), Swap()]))
    ```
    """

    def __init__(self, adjustments: Sequence[Adjustment]) -> None:
        adjustments = as_list(adjustments, "adjustments", "[Standardize(), Swap()]")
        if not adjustments:
            raise ValueError(
                "`adjustments` must hold at least one adjustment. Received: an empty list."
            )
        for adjustment in adjustments:
            if not isinstance(adjustment, Adjustment):
                raise TypeError(_not_an_adjustment(adjustment))
        self.adjustments = adjustments
        self.min_classes = max(adjustment.min_classes for adjustment in self.adjustments)
        self.needs_labels = any(adjustment.needs_labels for adjustment in self.adjustments)

    def adjust_logits(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the teacher's logits after all rules, shape `(..., C)`."""
        for adjustment in self.adjustments:
            teacher_logits = adjustment.adjust_logits(teacher_logits, labels)
        return teacher_logits

    def adjust_student_logits(self, student_logits: Tensor) -> Tensor:
        """Returns the student's logits after all rules, shape `(..., C)`."""
        for adjustment in self.adjustments:
            student_logits = adjustment.adjust_student_logits(student_logits)
        return student_logits

    def adjust_targets(
        self, log_probabilities: Tensor, teacher_logits: Tensor, labels: Tensor
    ) -> Tensor:
        """Returns the log-targets after all rules, shape `(..., C)`."""
        for adjustment in self.adjustments:
            log_probabilities = adjustment.adjust_targets(log_probabilities, teacher_logits, labels)
        return log_probabilities


def as_adjustment(value: Any) -> Adjustment | None:
    """Returns `value` if it is an adjustment or None, a list as a `Chain`, or raises."""
    if value is None or isinstance(value, Adjustment):
        return value
    if isinstance(value, list | tuple):
        return Chain(value)
    raise TypeError(_not_an_adjustment(value))


def as_logit_adjustment(value: Any, loss: str) -> Adjustment | None:
    """As `as_adjustment`, for a loss without soft targets that could be adjusted."""
    adjustment = as_adjustment(value)
    for rule in adjustment.adjustments if isinstance(adjustment, Chain) else [adjustment]:
        if rule is not None and type(rule).adjust_targets is not Adjustment.adjust_targets:
            raise ValueError(
                f"{loss} compares logits and has no soft targets to adjust. Received: "
                f"adjustment={type(rule).__name__}. Use a rule that adjusts logits, such as "
                "Standardize, or another loss."
            )
    return adjustment


def _not_an_adjustment(value: Any) -> str:
    return (
        "`adjustment` must be an instance of keras_ats.adjustments.Adjustment, a list of them or "
        f"None. Received: {value!r}."
    )
