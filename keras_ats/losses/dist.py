"""Distillation from a stronger teacher (DIST): correlations instead of differences."""

from collections.abc import Sequence
from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.adjustments.chain import as_adjustment
from keras_ats.losses.kd_loss import KDLoss, LossOptions
from keras_ats.ops.absent_classes import present_classes
from keras_ats.ops.correlation import pearson_correlation
from keras_ats.ops.softmax import temperature_softmax
from keras_ats.record import Lesson
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class DIST(KDLoss):
    r"""Correlates student and teacher over the classes of a sample and the samples of a class.

    A student cannot match the probabilities of a far stronger teacher. What it needs of them is
    what they prefer, so only Pearson's correlation $\rho$ is asked for, which leaves scale and
    shift free.

    $$L = \tau^2 \Big[\beta \Big(1 - \frac{1}{B} \sum_b \rho(q_{b,:}, p_{b,:})\Big) +
    \gamma \Big(1 - \frac{1}{C} \sum_c \rho(q_{:,c}, p_{:,c})\Big)\Big]$$

    with $p = \mathrm{softmax}(f / \tau)$, $q = \mathrm{softmax}(z / \tau)$ for a batch of $B$
    samples. The second term **depends on which samples share a batch**, its size included: a
    smaller last batch, or the share of one replica under `tf.distribute`, gives another value.
    All leading axes count as samples; masked positions leave the correlation. Per position the
    second term is the same for all, so that the mean is the formula above. Classes that neither
    has, whose logits are minus infinity, leave both correlations.

    With a single sample the second term is constant; with two classes the first has no gradient.
    The authors add twice the whole to the cross-entropy: both weights 2 and
    `compile(kd_weight=1.0, student_weight=1.0)`.

    Args:
        temperature: $\tau > 0$, dimensionless. Defaults to 4; the authors use 1 on ImageNet.
        inter_class_weight: $\beta \ge 0$, weight of the correlation over classes. Defaults to 1.
        intra_class_weight: $\gamma \ge 0$, weight of the correlation over samples. Defaults to 1.
        adjustment: A rule of `keras_ats.adjustments`, a list of them, or None (default).
        **options: As for `KDLoss`: `reduction`, `name`, `ignore_label`, `pseudo_labels`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `temperature` is not above 0, or a weight is negative.

    Example:

    ```python
    loss = keras_ats.losses.DIST(temperature=4.0)
    loss(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[9.0, 1.0], [2.0, 3.0]]))
    ```

    Reference: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv
    2205.10536; agrees with an author's code, image_classification_sota.
    """

    def __init__(
        self,
        temperature: float = 4.0,
        inter_class_weight: float = 1.0,
        intra_class_weight: float = 1.0,
        *,
        adjustment: Adjustment | Sequence[Adjustment] | None = None,
        **options: Unpack[LossOptions],
    ) -> None:
        super().__init__(**options)
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.inter_class_weight = self.add_variable(
            inter_class_weight, "inter_class_weight", checks.non_negative_number
        )
        self.intra_class_weight = self.add_variable(
            intra_class_weight, "intra_class_weight", checks.non_negative_number
        )
        self.adjustment = as_adjustment(adjustment)

    def call(self, lesson: Lesson) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature = self.temperature.value
        student = temperature_softmax(lesson.student.logits, temperature)
        teacher = ops.exp(self.soft_targets(lesson, temperature))
        present = ops.logical_or(
            present_classes(lesson.student.logits), present_classes(lesson.teacher.logits)
        )
        over_classes = pearson_correlation(student, teacher, mask=present)
        mask = lesson.student.mask
        if mask is not None:
            present = ops.logical_and(present, ops.expand_dims(mask, -1))
        student, teacher, present = (
            ops.reshape(values, (-1, student.shape[-1])) for values in (student, teacher, present)
        )
        over_samples = pearson_correlation(student, teacher, axis=0, mask=present)
        counted = ops.cast(ops.any(present, axis=0), "float32")
        mean = ops.sum(counted * over_samples) / ops.maximum(ops.sum(counted), 1.0)
        inter_class_part = self.inter_class_weight * (1.0 - over_classes)
        intra_class_part = self.intra_class_weight * (1.0 - mean)
        return temperature**2 * (inter_class_part + intra_class_part)
