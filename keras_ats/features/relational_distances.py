"""Relational knowledge distillation (RKD)."""

from typing import Unpack

import keras

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.rows import mean_rows
from keras_ats.ops.sample_relations import angle_difference, distance_difference
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class RelationalDistances(FeatureLoss):
    r"""Matches the distances between samples, and the angles that they see one another at.

    Where a sample lies is arbitrary; how far it is from others is what was learned. Neither depends
    on the width of a layer, so that no projector is needed.

    $$L = \frac{\alpha}{B^2} \sum_{ij} h(d^S_{ij} - d^T_{ij}) +
    \frac{\beta}{B^3} \sum_{ijk} h(\cos^S_{ijk} - \cos^T_{ijk})$$

    with Huber's $h$, $d_{ij} = \lVert f_i - f_j \rVert$ divided by its mean over pairs that are
    apart, and $\cos_{ijk}$ that of the angle at $f_i$ between $f_j$ and $f_k$. Made for the vectors
    before the classifier; maps and tokens are averaged over their positions. It **depends on which
    samples share a batch**: under `tf.distribute` and torch's `DistributedDataParallel` the samples
    of a replica are compared with one another. Memory grows with $B^3$ and with $B^2 C$.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        distance_weight: $\alpha \ge 0$. Defaults to 25.
        angle_weight: $\beta \ge 0$. Defaults to 50.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a weight is negative.

    Example:

    ```python
    loss = keras_ats.features.RelationalDistances("pool", "pool")
    loss(np.eye(4, 5), 3.0 * np.eye(4, 7))  # 0.0
    ```

    Reference: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068; agrees
    with RepDistiller.
    """

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.distance_weight = self.add_variable(
            distance_weight, "distance_weight", checks.non_negative_number
        )
        self.angle_weight = self.add_variable(
            angle_weight, "angle_weight", checks.non_negative_number
        )

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        rows = mean_rows(student), mean_rows(teacher)
        distances = self.distance_weight * distance_difference(*rows)
        return distances + self.angle_weight * angle_difference(*rows)
