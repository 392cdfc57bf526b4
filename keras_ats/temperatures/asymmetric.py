"""One temperature for the correct class, another for the wrong ones: ATS."""

import warnings

import keras

from keras_ats import checks
from keras_ats.ops.softmax import asymmetric_temperature
from keras_ats.record import Lesson
from keras_ats.temperatures.temperature import Temperature
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Asymmetric(Temperature):
    r"""Asymmetric Temperature Scaling: $\tau_c = \tau_1$ if $c = y$ else $\tau_2$.

    Args:
        correct_temperature: $\tau_1 > 0$, dimensionless. Defaults to 4.
        wrong_temperature: $\tau_2 > 0$, dimensionless; the paper intends $\tau_1 > \tau_2$, and a
            larger one is warned about. Defaults to 2. Both are kept as `keras.Variable`.

    Raises:
        TypeError: If a temperature is not a number.
        ValueError: If a temperature is not finite and above 0.

    Example:

    ```python
    loss = keras_ats.losses.SoftTargetKD(
        temperature=keras_ats.temperatures.Asymmetric(4.0, 2.0), student_temperature=1.0
    )
    ```

    Reference: Li et al., NeurIPS 2022, arXiv 2210.04427.
    """

    needs_labels = True
    per_class = True
    carries_gradient = False

    def __init__(self, correct_temperature: float = 4.0, wrong_temperature: float = 2.0) -> None:
        correct = checks.temperature(correct_temperature, "correct_temperature")
        wrong = checks.temperature(wrong_temperature, "wrong_temperature")
        if wrong > correct:
            warnings.warn(
                f"`wrong_temperature`={wrong:g} is above `correct_temperature`={correct:g}: this "
                "makes the teacher surer of the correct class and blurs the wrong ones, the "
                "opposite of what ATS is for. Swap them unless you are sweeping both.",
                stacklevel=2,
            )
        self.correct_temperature = self.add_variable(
            correct, "correct_temperature", checks.temperature
        )
        self.wrong_temperature = self.add_variable(wrong, "wrong_temperature", checks.temperature)

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the temperature of each class, shape `(..., C)`."""
        return asymmetric_temperature(
            lesson.labels,
            lesson.teacher.logits,
            self.correct_temperature,
            self.wrong_temperature,
        )

    def by_label(self, lesson: Lesson) -> tuple[Tensor, Tensor | None]:
        """Returns the temperature of the wrong classes, and that of the label's."""
        if type(self).__call__ is not Asymmetric.__call__:
            return super().by_label(lesson)
        return self.wrong_temperature.value, self.correct_temperature.value
