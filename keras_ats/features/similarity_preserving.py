"""Similarity-preserving distillation (SP)."""

import keras

from keras_ats.features.feature_loss import FeatureLoss, FeatureMap
from keras_ats.features.rows import flat_rows
from keras_ats.ops.sample_relations import similarity_difference
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class SimilarityPreserving(FeatureLoss):
    r"""Matches how alike two layers find any two samples of a batch.

    Layers of any sizes and widths can be compared by what they make similar.

    $$L = \frac{1}{B^2} \lVert G^S - G^T \rVert_F^2, \qquad
    G = \text{rows of } F F^\top \text{ brought to length 1}$$

    with $F$, of shape $(B, D)$, all values of a layer. The loss **depends on which samples share a
    batch**: under `tf.distribute` and torch's `DistributedDataParallel` the samples of a replica
    are compared with one another. A sample that is masked altogether is like no other. In
    RepDistiller's comparison it weighs 3000, on the last block.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        data_format: As for `FeatureLoss`.
        reduction: As for `FeatureLoss`.
        name: As for `FeatureLoss`.

    Example:

    ```python
    loss = keras_ats.features.SimilarityPreserving("stage3", "stage3")
    loss(np.eye(3, 4), np.eye(3, 5))  # 0.0
    ```

    Reference: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
    arXiv 1907.09682; agrees with RepDistiller.
    """

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        return similarity_difference(flat_rows(student), flat_rows(teacher))
