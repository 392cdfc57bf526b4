"""Neuron selectivity transfer (NST)."""

import keras

from keras_ats.features.feature_loss import FeatureLoss, FeatureMap
from keras_ats.ops.attention_maps import selectivity_difference
from keras_ats.ops.feature_maps import as_positions
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class NeuronSelectivity(FeatureLoss):
    r"""Matches what two layers' units are selective for, as sets of maps.

    Which unit does what is arbitrary, and so may be how many there are. What is compared is the
    maximum mean discrepancy of the two sets of maps that the channels make of a sample.

    $$L = \frac{1}{C_S^2} \sum_{ij} (s_i^\top s_j)^2 + \frac{1}{C_T^2} \sum_{ij} (t_i^\top t_j)^2 -
    \frac{2}{C_S C_T} \sum_{ij} (s_i^\top t_j)^2$$

    over channels $i$, $j$, whose maps are brought to length 1; the larger of two layers is averaged
    to the smaller one's sizes. The cost grows with the square of the channels or of the positions,
    whichever are fewer. In RepDistiller's comparison it weighs 50.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        data_format: As for `FeatureLoss`.
        reduction: As for `FeatureLoss`.
        name: As for `FeatureLoss`.

    Example:

    ```python
    loss = keras_ats.features.NeuronSelectivity("stage3", "stage3")
    maps = np.random.rand(2, 4, 4, 8)
    loss(maps, np.concatenate([maps, maps], axis=-1))  # 0.0
    ```

    Reference: Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    2017, arXiv 1707.01219; agrees with RepDistiller.
    """

    ranks = (3, 4, 5)
    same_ranks = True
    pairs_positions = True

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        return selectivity_difference(as_positions(student.values), as_positions(teacher.values))
