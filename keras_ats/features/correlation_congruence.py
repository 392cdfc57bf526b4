"""Correlation congruence (CC)."""

from typing import Unpack

import keras

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.projectors import dense
from keras_ats.features.rows import mean_rows
from keras_ats.ops.sample_relations import consecutive_difference
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class CorrelationCongruence(FeatureLoss):
    r"""Matches embeddings where neighbours in a batch are off in the same way.

    $$L = \frac{1}{B - 1} \sum_b \sum_d |\Delta_{b d}| \, |\Delta_{b + 1, d}|, \qquad
    \Delta = E_S s - E_T t$$

    with trained linear embeddings of both sides, as in the authors' part of RepDistiller; the paper
    has other correlations. Made for the vectors before the classifier; maps and tokens are averaged
    over their positions. It **depends on the order of the samples in a batch**: under
    `tf.distribute` and torch's `DistributedDataParallel` the samples of a replica are neighbours. A
    batch of one gives 0. In RepDistiller's comparison it weighs 0.02.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        dimensions: Width of the embeddings. Defaults to 128. None embeds nothing, and needs layers
            of one width.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `dimensions` is below 1.

    Example:

    ```python
    loss = keras_ats.features.CorrelationCongruence("pool", "pool", dimensions=None)
    loss(np.ones((4, 5)), np.zeros((4, 5)))  # 5.0
    ```

    Reference: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019,
    arXiv 1904.01802; agrees with RepDistiller.
    """

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        dimensions: int | None = 128,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.dimensions = (
            None if dimensions is None else checks.as_integer(dimensions, "dimensions")
        )
        self.same_channels = self.dimensions is None
        self.embeddings: list[list[keras.layers.Layer]] = []

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes the embeddings of each pair."""
        if self.dimensions is None:
            return
        self.embeddings = [
            [dense((None, shape[-1]), self.dimensions) for shape in pair]
            for pair in zip(student, teacher, strict=True)
        ]

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        rows = [mean_rows(student), mean_rows(teacher)]
        if self.embeddings:
            rows = [layer(one) for layer, one in zip(self.embeddings[index], rows, strict=True)]
        return consecutive_difference(*rows)
