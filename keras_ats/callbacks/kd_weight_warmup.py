"""Lets the teacher's voice grow over the first epochs."""

import keras

from keras_ats.checks import fraction
from keras_ats.types import Config


class KDWeightWarmup(keras.callbacks.Callback):
    r"""Raises the distiller's `kd_weight` linearly over the first epochs.

    An untrained student has no use for fine distinctions yet. In epoch $e$, counted from 1, the
    weight is $w_{KD} \min(e / E, 1)$. It depends on the epoch alone, so a resumed run goes on
    where it was.

    Args:
        kd_weight: $w_{KD}$, the weight after the warm-up, from 0 to 1.
        epochs: $E \ge 1$, length of the warm-up. Defaults to 20, as for decoupled distillation.

    Raises:
        ValueError: If `epochs` is below 1 or `kd_weight` is not within [0, 1].

    Example:

    ```python
    warmup = keras_ats.callbacks.KDWeightWarmup(kd_weight=1.0, epochs=20)
    ```

    Reference: Zhao et al., CVPR 2022, arXiv 2203.08679; agrees with the authors' code, mdistiller,
    for `compile(kd_loss=DecoupledKD(), kd_weight=1.0, student_weight=1.0)`.
    """

    def __init__(self, kd_weight: float, epochs: int = 20) -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs!r}.")
        self.kd_weight = fraction(kd_weight, "kd_weight")
        self.epochs = epochs

    def weight(self, epoch: int) -> float:
        """Returns the weight for an epoch counted from 1."""
        return self.kd_weight * min(epoch / self.epochs, 1.0)

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Sets the weight; called by Keras, which counts epochs from 0."""
        self.model.kd_weight.assign(self.weight(epoch + 1))
