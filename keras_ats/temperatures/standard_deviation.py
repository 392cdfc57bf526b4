"""A temperature in units of each row's own spread (NormKD)."""

import keras
from keras import ops

from keras_ats import checks
from keras_ats.ops.standardize import row_deviations
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor

# Of a row whose logits are all alike there is nothing to soften.
_LEAST = 1e-4


@keras.saving.register_keras_serializable(package="keras_ats")
class StandardDeviation(Temperature):
    r"""Softens each row by a multiple of its own spread, teacher's and student's each by theirs.

    One temperature softens a sample that the teacher is sure of less than another. In units of the
    row's standard deviation all are softened alike.

    $$\tau_b = c \; \mathrm{std}(f_b), \qquad \tau^S_b = c \; \mathrm{std}(z_b)$$

    with the unbiased deviation over the classes. A loss carries the teacher's $\tau_b^2$, so that
    what the teacher is sure of counts more. The student's scale does not matter, and the gradient
    flows through its deviation; two classes leave nothing to learn.

    Args:
        factor: $c > 0$, dimensionless. Defaults to 2. Kept as a `keras.Variable`.

    Raises:
        TypeError: If `factor` is not a number.
        ValueError: If `factor` is not finite and above 0.

    Example:

    ```python
    rule = keras_ats.temperatures.StandardDeviation(2.0)
    loss = keras_ats.losses.SoftTargetKD(rule)  # NormKD
    loss(np.array([[1.0, 0.0, 2.0]]), np.array([[9.0, 1.0, 0.0]]))
    ```

    Reference: Chi et al., "NormKD: Normalized Logits for Knowledge Distillation", 2023,
    arXiv 2308.00520; agrees with the authors' code.
    """

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = self.add_variable(factor, "factor", checks.temperature)

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the teacher's temperatures, `(..., 1)`."""
        return self._of(lesson.teacher.logits)

    def of_student(self, lesson: Lesson) -> Tensor:
        """Returns the student's temperatures, `(..., 1)`."""
        return self._of(lesson.student.logits)

    def _of(self, logits: Tensor) -> Tensor:
        return self.factor * ops.maximum(row_deviations(logits), _LEAST)
