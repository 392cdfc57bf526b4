"""Attention transfer (AT)."""

import keras
from keras import ops

from keras_ats.features.feature_loss import FeatureLoss, FeatureMap
from keras_ats.ops.attention_maps import attention_map
from keras_ats.ops.feature_maps import mean_of_samples
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class AttentionTransfer(FeatureLoss):
    r"""Matches where two layers are active, whatever their units are.

    A map of how active a layer is at each position has no channels, so that layers of any widths
    can be compared without a projector.

    $$L = \frac{1}{N} \sum_n (a^S_n - a^T_n)^2, \qquad
    a = \frac{A}{\lVert A \rVert_2}, \quad A_n = \frac{1}{C} \sum_c F_{n c}^2$$

    over the $N$ positions; the larger of two maps is averaged to the smaller one's sizes. Sums over
    layers. In RepDistiller's comparison it weighs 1000.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        data_format: As for `FeatureLoss`.
        reduction: As for `FeatureLoss`.
        name: As for `FeatureLoss`.

    Example:

    ```python
    loss = keras_ats.features.AttentionTransfer(["stage2", "stage3"], ["stage2", "stage3"])
    maps = [np.random.rand(2, 8, 8, 16), np.random.rand(2, 4, 4, 32)]
    loss(maps, [2.0 * one for one in maps])  # 0.0
    ```

    Reference: Zagoruyko, Komodakis, "Paying More Attention to Attention", ICLR 2017,
    arXiv 1612.03928; agrees with RepDistiller.
    """

    ranks = (3, 4, 5)
    same_ranks = True
    pairs_positions = True

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        difference = attention_map(student.values) - attention_map(teacher.values)
        return mean_of_samples(ops.square(difference), student.mask)
