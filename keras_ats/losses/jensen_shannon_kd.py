"""Distillation by the Jensen-Shannon divergence, between KL and its reverse."""

from collections.abc import Sequence
from typing import Unpack

import keras

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.losses.kd_loss import LossOptions
from keras_ats.losses.soft_target_kd import SoftTargetKD
from keras_ats.ops.divergences import jensen_shannon_divergence
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class JensenShannonKD(SoftTargetKD):
    r"""Distillation by a bounded divergence that weighs both directions.

    A small student cannot follow a teacher everywhere. KL has it cover all that the teacher finds
    possible, reverse KL has it keep to what the teacher finds likely; this lies between the two,
    and no single class can make it large.

    $$L = \tau^2 \big[\beta \, KL(p \,\|\, m) + (1 - \beta) \, KL(q \,\|\, m)\big], \qquad
    m = \beta p + (1 - \beta) q$$

    with $p = \mathrm{softmax}(f / \tau)$ and $q = \mathrm{softmax}(z / \tau)$; zero where student
    and teacher agree, and at most $\tau^2 \log 2$. Near 0 and 1 of $\beta$ it is small: divide the
    learning rate or `kd_weight` by $\beta (1 - \beta)$ to compare with KL.

    Args:
        temperature: How both sides are softened: a number or a rule of `keras_ats.temperatures`
            with one temperature per sample. Defaults to 4; the authors use 1.
        teacher_weight: $\beta$ above 0 and below 1. Defaults to 0.5, Jensen-Shannon proper; towards
            0 the loss is like KL, towards 1 like reverse KL.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If a part is of the wrong type.
        ValueError: If `temperature` is not above 0, or `teacher_weight` not between 0 and 1.

    Example:

    ```python
    loss = keras_ats.losses.JensenShannonKD(temperature=1.0, teacher_weight=0.1)
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))
    ```

    Reference: Agarwal et al., "On-Policy Distillation of Language Models: Learning from
    Self-Generated Mistakes", ICLR 2024, arXiv 2306.13649.
    """

    def __init__(
        self,
        temperature: float | Temperature = 4.0,
        *,
        teacher_weight: float = 0.5,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(temperature, adjustment=adjustment, divergence="jensen_shannon", **options)
        self.teacher_weight = self.add_variable(
            teacher_weight, "teacher_weight", checks.inner_fraction
        )

    def distance(self, targets: Tensor, log_probabilities: Tensor) -> Tensor:
        """Returns the weighted divergence of each position, shape `(...,)`."""
        return jensen_shannon_divergence(targets, log_probabilities, self.teacher_weight.value)
