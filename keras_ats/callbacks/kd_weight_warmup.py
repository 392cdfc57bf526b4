"""Lets the teacher's voice grow over the first epochs."""

from keras_ats.callbacks.kd_weight_schedule import KDWeightSchedule
from keras_ats.checks import as_integer, non_negative_number


class KDWeightWarmup(KDWeightSchedule):
    r"""Raises the distiller's `kd_weight` linearly over the first epochs.

    A `KDWeightSchedule`. An untrained student has no use for fine distinctions yet. In epoch $e$,
    counted from 1, the weight is $w_{KD} \min(e / E, 1)$. It depends on the epoch alone, so a
    resumed run goes on where it was.

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
        self.epochs = as_integer(epochs, "epochs")
        self.kd_weight = non_negative_number(kd_weight, "kd_weight")
        super().__init__(lambda epoch: self.weight(epoch + 1))

    def weight(self, epoch: int) -> float:
        """Returns the weight for an epoch counted from 1."""
        return self.kd_weight * min(epoch / self.epochs, 1.0)
