"""Dynamic temperatures from how sure the student is (CWSM)."""

import keras
from keras import ops

from keras_ats.ops.softmax import temperature_softmax
from keras_ats.record import Lesson
from keras_ats.temperatures.per_sample import PerSample
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ConfidenceWeighted(PerSample):
    r"""Confidence weights: samples that the student is unsure of stay sharper.

    $$w_x = 1 / (\max_c \mathrm{softmax}(z)_c + 10^{-3}),
    \qquad \tau_x = \max\big(\tau_{min}, \tau_0 + \beta (\bar w - w_x)\big)$$

    for student logits $z$; the same temperature softens both sides. Weights range from 1 to the
    number of classes, so $\beta$ should be of the order of $\tau_0 / C$. Depends on the batch: the
    mean is taken over the global batch, also on several devices.

    Agrees with TextBrewer, HanLP and a third copy, apart from the minimum, which they lack; the
    paper's own equations could not be found.

    Args:
        temperature: $\tau_0 > 0$, dimensionless. Defaults to 4.
        bias: $\beta \ge 0$, how far temperatures spread. Defaults to 1.
        minimum: $\tau_{min} > 0$. Defaults to 1.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is out of its range.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(keras_ats.temperatures.ConfidenceWeighted(4.0, bias=0.1))
    ```

    Reference: Wen, Lai, Qian, Neurocomputing 454, 2021, arXiv 1911.07471.
    """

    def __init__(self, temperature: float = 4.0, bias: float = 1.0, minimum: float = 1.0) -> None:
        super().__init__(temperature, bias, minimum)

    def weights(self, lesson: Lesson) -> Tensor:
        """Returns the inverse confidence of each position, shape `(...,)`."""
        confidence = ops.max(temperature_softmax(lesson.student.logits), axis=-1)
        return 1.0 / (confidence + 1e-3)
