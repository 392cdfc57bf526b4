"""Probabilistic knowledge transfer (PKT)."""

import keras

from keras_ats.features.feature_loss import FeatureLoss, FeatureMap
from keras_ats.features.rows import mean_rows
from keras_ats.ops.sample_relations import transfer_divergence
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ProbabilisticTransfer(FeatureLoss):
    r"""Matches each sample's probabilities of having the others for neighbours.

    $$L = \frac{1}{B^2} \sum_{ij} p_{ij} \log \frac{p_{ij}}{q_{ij}}$$

    with rows $p$ of the teacher and $q$ of the student: $(1 + \cos(f_i, f_j)) / 2$, divided by its
    sum over $j$. Made for the vectors before the classifier; maps and tokens are averaged over
    their positions. It **depends on which samples share a batch**: under `tf.distribute` and
    torch's `DistributedDataParallel` the samples of a replica are compared with one another. In
    RepDistiller's comparison it weighs 30000.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        data_format: As for `FeatureLoss`.
        reduction: As for `FeatureLoss`.
        name: As for `FeatureLoss`.

    Example:

    ```python
    loss = keras_ats.features.ProbabilisticTransfer("pool", "pool")
    loss(np.eye(4, 5), np.eye(4, 7))  # 0.0
    ```

    Reference: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge
    Transfer", ECCV 2018, arXiv 1803.10837; agrees with RepDistiller.
    """

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        return transfer_divergence(mean_rows(student), mean_rows(teacher))
