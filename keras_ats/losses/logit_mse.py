"""Mean squared difference of logits."""

import keras

from keras_ats.losses.kd_loss import KDLoss
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class LogitMSE(KDLoss):
    r"""Mean squared difference of student's and teacher's logits: no softmax, no temperature.

    What `TemperatureKD` tends to as the temperature grows, up to a factor, but that it also asks
    the student for the mean of the teacher's logits.

    $$L = \frac{1}{C} \sum_c (z_c - f_c)^2$$

    averaged over classes too, unlike the other losses here. It **depends on a constant added to
    the logits** of either side, which no softmax would notice: feed it logits, not
    log-probabilities, or take that freedom away with `standardize=True`.

    Args:
        **kwargs: As for `KDLoss`: `standardize`, `reduction`, `name`.

    Example:

    ```python
    keras_ats.losses.LogitMSE()(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))  # 2.0
    ```

    Reference: Kim et al., "Comparing Kullback-Leibler Divergence and Mean Squared Error Loss in
    Knowledge Distillation", IJCAI 2021, arXiv 2105.08919; agrees with the authors' code, kd_data.
    """

    min_classes = 1

    def call(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """Returns the loss of each position, shape `(...,)`."""
        return keras.ops.mean(keras.ops.square(student_logits - teacher_logits), axis=-1)
