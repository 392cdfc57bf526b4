"""The base class of temperature rules."""

import keras

from keras_ats.configurable import Configurable
from keras_ats.ops.arguments import as_factor
from keras_ats.record import Lesson
from keras_ats.types import Tensor


class Temperature(Configurable):
    """Decides at what temperature the teacher's logits are softened.

    Subclass it, implement `__call__`, and pass an instance to any soft-target loss: a new rule is
    one file and needs no change elsewhere.

    Attributes:
        needs_labels: Whether `__call__` reads the labels. Defaults to False.
        per_class: Whether it gives the classes of one sample different temperatures. Such a rule
            cannot soften the student, whose temperature must then be given. Defaults to False.
        carries_gradient: Whether what it gives may depend on what is trained. A loss takes a
            longer way then. Defaults to True; stated by the class that implements `__call__`.

    Example:

    ```python
    class Linear(keras_ats.temperatures.Temperature):
        "Softens a sample more, the surer the teacher is of it."

        def __call__(self, lesson):
            probabilities = keras_ats.ops.temperature_softmax(lesson.teacher.logits)
            return 1.0 + 3.0 * keras.ops.max(probabilities, axis=-1, keepdims=True)

    loss = keras_ats.losses.SoftTargetKD(temperature=Linear())
    ```
    """

    needs_labels: bool = False
    per_class: bool = False
    carries_gradient: bool = True

    def __call__(self, lesson: Lesson) -> Tensor:
        """Returns the temperatures for one batch.

        Args:
            lesson: What `KDLoss.call` gets: logits of both sides, float32, shape `(..., C)`, the
                teacher's without gradient; labels in any form of `ops.label_distribution`, or
                None; `lesson.student.mask`, shape `(...,)`, True for valid positions, or None.

        Returns:
            float32 tensor above 0 that broadcasts against `(..., C)`: a scalar, `(..., 1)`, or
            `(..., C)` for a rule with `per_class`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def of_student(self, lesson: Lesson) -> Tensor | None:
        """Returns the student's own temperatures, for a rule that has such.

        Args:
            lesson: As for `__call__`.

        Returns:
            As `__call__`; None (default) where the student has the teacher's.
        """
        return None

    def by_label(self, lesson: Lesson) -> tuple[Tensor, Tensor | None]:
        """Returns the temperatures, and that of the label's class by itself if it is another.

        Args:
            lesson: As for `__call__`.

        Returns:
            What `__call__` gives, and None; or a scalar for the wrong classes and one for the
            label's, of which the temperatures of all classes need not be made.
        """
        return temperatures_of(self, lesson), None


def has_gradient(rule: Temperature) -> bool:
    """Whether a rule's temperatures may depend on what is trained."""
    for owner in type(rule).__mro__:
        # Below the one that says so, a subclass may compute something else.
        if "carries_gradient" in vars(owner):
            break
        if "__call__" in vars(owner):
            return True
    parts = vars(rule).values()
    return rule.carries_gradient or any(
        isinstance(one, keras.Variable) and one.trainable for one in parts
    )


def temperatures_of(rule: Temperature, lesson: Lesson) -> Tensor:
    """Returns what a rule says of a batch, or raises if these are no temperatures.

    Args:
        rule: The rule.
        lesson: As for the rule.

    Returns:
        float32 tensor, a scalar, `(..., 1)` or `(..., C)`.
    """
    said = rule(lesson)
    shape = tuple(lesson.teacher.logits.shape)
    try:
        temperature = as_factor(said, "temperature", shape)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{type(rule).__name__} returned no temperature. {error}") from None
    own = tuple(temperature.shape)
    # One axis short would stand for classes, where there happen to be as many.
    if own and (len(own) < len(shape) or (own[-1] != 1 and not rule.per_class)):
        expected = f"a scalar, {(*shape[:-1], 1)}, or {shape} with `per_class`"
        raise ValueError(
            f"{type(rule).__name__} returned no temperature for each position. Received: shape "
            f"{own} for logits of shape {shape}. Expected: {expected}."
        )
    return temperature
