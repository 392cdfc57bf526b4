"""Transformed Teacher Matching: a temperature on the teacher only (TTM, WTTM)."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.record import Lesson
from keras_ats.temperatures.constant import Constant
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class TransformedTeacherKD(SoftTargetKD):
    r"""Matches the student, untempered, with the power-transformed teacher.

    $$L = U^w \; KL\big(\mathrm{softmax}(f / \tau) \,\|\, \mathrm{softmax}(z)\big), \qquad
    U = \sum_c \mathrm{softmax}(f)_c^{1/\tau}$$

    with $w = 1$ for the weighted form, which gives more weight to samples that the teacher is
    unsure of, else 0. Without weights this is ATS at equal temperatures, up to the targets'
    entropy: the natural ablation.

    Args:
        temperature: $\tau > 0$, dimensionless; the papers' exponent is $1/\tau$. Defaults to 4.
        weighted: Whether samples are weighted (WTTM). Defaults to False.
        student_temperature: Above 0, dimensionless. Defaults to 1, which is the method.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If `temperature` is not a number.
        ValueError: If `temperature` is not finite and above 0.

    Example:

    ```python
    loss = keras_ats.losses.TransformedTeacherKD(4.0, weighted=True)
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))
    ```

    Reference: Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR
    2024, arXiv 2402.11148; agrees with the authors' code, which adds it to the cross-entropy with
    a weight of its own (up to 101).
    """

    def __init__(
        self,
        temperature: float = 4.0,
        *,
        weighted: bool = False,
        student_temperature: float = 1.0,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        rule = Constant(temperature)
        super().__init__(
            rule, student_temperature=student_temperature, adjustment=adjustment, **options
        )
        self.temperature: keras.Variable = rule.value
        self.weighted = checks.as_boolean(weighted, "weighted")

    def bucket_temperatures(self) -> tuple[Tensor, Tensor] | None:
        """Returns the temperatures of wrong classes; the weight reads all of them."""
        return None if self.weighted else super().bucket_temperatures()

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        values = super().call(lesson)
        if not self.weighted:
            return values
        log_powers = temperature_log_softmax(lesson.teacher.logits) / self.temperature
        return values * ops.exp(ops.logsumexp(log_powers, axis=-1))
