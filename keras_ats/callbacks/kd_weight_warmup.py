"""Lets the teacher's voice grow over the first epochs."""

import keras

from keras_ats.checks import as_integer, non_negative_number
from keras_ats.distiller.distiller import Distiller
from keras_ats.types import Config


class KDWeightWarmup(keras.callbacks.Callback):
    r"""Raises the distiller's `kd_weight` linearly over the first epochs.

    An untrained student has no use for fine distinctions yet. In epoch $e$, counted from 1, the
    weight is $w_{KD} \min(e / E, 1)$. It depends on the epoch alone, so a resumed run goes on
    where it was.

    Args:
        kd_weight: $w_{KD}$, the weight after the warm-up, at least 0; at most 1 where the
            distiller's `student_weight` follows from it.
        epochs: $E \ge 1$, length of the warm-up. Defaults to 20, as for decoupled distillation.

    Raises:
        TypeError: If `epochs` is not an integer, or the model is not a distiller.
        ValueError: If `epochs` is below 1 or `kd_weight` is out of its range.

    Example:

    ```python
    warmup = keras_ats.callbacks.KDWeightWarmup(kd_weight=1.0, epochs=20)
    ```

    Reference: Zhao et al., CVPR 2022, arXiv 2203.08679; agrees with the authors' code, mdistiller,
    for `compile(kd_loss=DecoupledKD(), kd_weight=1.0, student_weight=1.0)`.
    """

    def __init__(self, kd_weight: float, epochs: int = 20) -> None:
        super().__init__()
        self.epochs = as_integer(epochs, "epochs")
        self.kd_weight = non_negative_number(kd_weight, "kd_weight")

    def weight(self, epoch: int) -> float:
        """Returns the weight for an epoch counted from 1."""
        return self.kd_weight * min(epoch / self.epochs, 1.0)

    def on_train_begin(self, logs: Config | None = None) -> None:
        """Finds out before the first epoch whether the weight can be set; called by Keras."""
        if not isinstance(self.model, Distiller):
            raise TypeError(
                "KDWeightWarmup sets the weight of a distiller. Received: "
                f"{type(self.model).__name__} '{self.model.name}'. Expected: "
                "Distiller(teacher, student).fit(..., callbacks=[KDWeightWarmup(...)])."
            )
        if self.kd_weight > 1 and self.model.student_weight_follows:
            raise ValueError(
                "`kd_weight` must be within [0, 1] where `student_weight` is what is left of 1. "
                f"Received: kd_weight={self.kd_weight!r}. Pass a student_weight to `compile`."
            )

    def on_epoch_begin(self, epoch: int, logs: Config | None = None) -> None:
        """Sets the weight; called by Keras, which counts epochs from 0."""
        self.model.kd_weight.assign(self.weight(epoch + 1))
