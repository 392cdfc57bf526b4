"""Distillation from a stronger teacher (DIST): correlations instead of differences."""

from typing import Any

import keras

from keras_ats import ops
from keras_ats.checks import non_negative_number, positive_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Config, Tensor


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
    second term is the same for all, so that the mean is the formula above.

    With a single sample the second term is constant; with two classes the first has no gradient.
    The authors add twice the whole to the cross-entropy: both weights 2 and
    `compile(kd_weight=1.0, student_weight=1.0)`.

    Args:
        temperature: $\tau > 0$, dimensionless. Defaults to 4; the authors use 1 on ImageNet.
        inter_class_weight: $\beta \ge 0$, weight of the correlation over classes. Defaults to 1.
        intra_class_weight: $\gamma \ge 0$, weight of the correlation over samples. Defaults to 1.
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = self.add_variable(
            positive_number(temperature, "temperature"), "temperature"
        )
        self.inter_class_weight = self.add_variable(
            non_negative_number(inter_class_weight, "inter_class_weight"), "inter_class_weight"
        )
        self.intra_class_weight = self.add_variable(
            non_negative_number(intra_class_weight, "intra_class_weight"), "intra_class_weight"
        )

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        temperature = self.temperature.value
        student = ops.temperature_softmax(student_logits, temperature)
        teacher = ops.temperature_softmax(teacher_logits, temperature)
        over_classes = ops.pearson_correlation(student, teacher)
        flat = (-1, student.shape[-1])
        over_samples = ops.pearson_correlation(
            keras.ops.reshape(student, flat),
            keras.ops.reshape(teacher, flat),
            axis=0,
            mask=None if mask is None else keras.ops.reshape(mask, (-1, 1)),
        )
        inter_class_part = self.inter_class_weight * (1.0 - over_classes)
        intra_class_part = self.intra_class_weight * (1.0 - keras.ops.mean(over_samples))
        return temperature**2 * (inter_class_part + intra_class_part)

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        return {
            "temperature": serialize(self.temperature),
            "inter_class_weight": serialize(self.inter_class_weight),
            "intra_class_weight": serialize(self.intra_class_weight),
            **super().get_config(),
        }
