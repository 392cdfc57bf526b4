"""Dynamic temperatures from how far student and teacher disagree (FLSW)."""

import keras
from keras import ops

from keras_ats import checks
from keras_ats.ops.absent_classes import present_classes
from keras_ats.record import Lesson
from keras_ats.temperatures.per_sample import PerSample
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class FocalWeighted(PerSample):
    r"""Focal-loss style weights: samples on which student and teacher disagree stay sharper.

    $$w_x = \Big(1 - \frac{\langle z, f \rangle}{(|z| + 10^{-4})(|f| + 10^{-4})}\Big)^\gamma,
    \qquad \tau_x = \max\big(\tau_{min}, \tau_0 + \beta (\bar w - w_x)\big)$$

    for student logits $z$ and teacher logits $f$; the same temperature softens both. Depends on
    the batch: the mean is taken over the global batch, also on several devices. Cosines are not
    invariant to a shift of the logits.

    Agrees with TextBrewer, HanLP and a third copy, apart from the minimum, which they lack. The
    paper's own equations could not be found: whether it takes logits or probabilities, normalises
    the weights or clamps is unknown. Another public version (Wisers) uses the inner product of
    probabilities and a minimum of 1.

    Args:
        temperature: $\tau_0 > 0$, dimensionless. Defaults to 4.
        bias: $\beta \ge 0$, how far temperatures spread. Defaults to 1.
        focus: $\gamma > 0$: the larger, the more the spread is left to the few samples with the
            strongest disagreement. Defaults to 2.
        minimum: $\tau_{min} > 0$. Defaults to 1.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of its range.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(keras_ats.temperatures.FocalWeighted(4.0, bias=1.0))
    ```

    Reference: Wen, Lai, Qian, Neurocomputing 454, 2021, arXiv 1911.07471.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        bias: float = 1.0,
        focus: float = 2.0,
        minimum: float = 1.0,
    ) -> None:
        super().__init__(temperature, bias, minimum)
        self.focus = self.add_variable(focus, "focus", checks.positive_number)

    def weights(self, lesson: Lesson) -> Tensor:
        """Returns the disagreement of each position, shape `(...,)`."""
        teacher, student = _direction(lesson.teacher.logits), _direction(lesson.student.logits)
        agreement = ops.sum(teacher * student, axis=-1)
        # Rounding can bring the cosine of parallel logits above 1, and a fractional power of the
        # negative rest would be NaN.
        return ops.power(ops.maximum(1.0 - agreement, 0.0), self.focus)


def _direction(logits: Tensor) -> Tensor:
    # A class that is absent, its logit minus infinity, has no part in the angle.
    logits = ops.where(present_classes(logits), logits, 0.0)
    return logits / (ops.norm(logits, axis=-1, keepdims=True) + 1e-4)
