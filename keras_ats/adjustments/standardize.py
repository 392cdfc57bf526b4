"""Z-scores the logits of both sides: what is taught is their shape, not their scale."""

import keras

from keras_ats.adjustments.adjustment import Adjustment
from keras_ats.ops.standardize import standardized_logits
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Standardize(Adjustment):
    r"""Logit standardisation: a student need not match the teacher's range to match its opinion.

    $$f \leftarrow (f - \mathrm{mean}(f)) / (10^{-7} + \mathrm{std}(f)), \qquad z \text{ likewise}$$

    for each sample, with the unbiased standard deviation. The gradient flows through mean and
    standard deviation of the student's logits. With two classes the result is $\pm 0.707$ whatever
    the logits, so nothing could be learned from it, and it is refused. The authors use
    temperature 2 with it.

    Needs no labels. Together with a rule that does it is written
    `adjustment=[Standardize(), Swap()]`.

    Example:

    ```python
    loss = keras_ats.losses.TemperatureKD(2.0, adjustment=keras_ats.adjustments.Standardize())
    loss(np.array([[1.0, 0.0, 0.0]]), np.array([[9.0, 1.0, 0.0]]))
    ```

    Reference: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024,
    arXiv 2403.01427; agrees with the authors' code.
    """

    needs_labels = False
    min_classes = 3

    def adjust_logits(self, teacher_logits: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the teacher's z-scored logits, shape `(..., C)`."""
        return standardized_logits(teacher_logits)

    def adjust_student_logits(self, student_logits: Tensor) -> Tensor:
        """Returns the student's z-scored logits, shape `(..., C)`."""
        return standardized_logits(student_logits)
