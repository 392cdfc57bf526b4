"""Temperatures chosen from the teacher's logits alone."""

from typing import Any, NamedTuple

import numpy as np

from keras_ats.diagnostics.logits import Data, Reading, Said, said_by
from keras_ats.diagnostics.softening import WrongClasses, is_wrong, log_odds, wrong_classes
from keras_ats.ops.absent_classes import present_classes
from keras_ats.teachers.live import TeacherInputs
from keras_ats.views.read import FromLogits

# Seen, not proven: in 44 trials with two teachers on CLINC150 and Banking77 the best pairs brought
# the wrong logits to a spread of about 1 and the correct class to a share of 0.2 to 0.3.
SPREAD = 1.15
SHARE = 0.25


class Suggestion(NamedTuple):
    """A pair of temperatures for `AsymmetricTemperatureKD`.

    Attributes:
        correct_temperature: Of the correct class.
        wrong_temperature: Of the others.
        reason: Two sentences.
    """

    correct_temperature: float
    wrong_temperature: float
    reason: str


def suggest_temperatures(
    teacher: Any,
    data: Data,
    *,
    from_logits: FromLogits = None,
    inputs: TeacherInputs = None,
    output: str | None = None,
    ignore_label: int | None = None,
    batch_size: int = 256,
    verbose: bool = True,
) -> Suggestion:
    r"""Suggests the two temperatures of ATS for a teacher, without training a student.

    Two numbers decide how well soft targets teach: how far apart the wrong logits are left, and how
    much probability stays with the correct class. The wrong temperature brings the spread of the
    wrong logits (their standard deviation, averaged over samples) to 1.15; the correct temperature
    then leaves the correct class a quarter of the way from chance to certainty,

    $$\tau_2 = \max(1, s / 1.15), \qquad
    \tau_1: \; \overline{p_y} = \tfrac{1}{C} + \tfrac{1}{4} \left(1 - \tfrac{1}{C}\right)$$

    A starting point: the rule was read off the best of a few dozen pairs on two data sets. Where a
    search can be afforded, search around it on validation data.

    Args:
        teacher: A trained, built model, a `keras_ats.teachers.Teacher`, or an array of logits of
            shape `(N, C)`.
        data: `(x, y)` of arrays, or an iterable of batches `(x, y)`; a few hundred samples will do.
            Held-out samples are better: on those that it was trained on a teacher is surer.
        from_logits: As `teacher_from_logits` of `Distiller`. Defaults to None.
        inputs: As `teacher_inputs` of `Distiller`. Defaults to None.
        output: Name of the output to look at, for models with several. Defaults to None.
        ignore_label: A class id whose positions are left out. Defaults to None.
        batch_size: Samples in a batch, where `data` are arrays. Defaults to 256.
        verbose: Whether to show a progress bar. Defaults to True.

    Returns:
        A `Suggestion`: `correct_temperature`, `wrong_temperature` and the `reason`.

    Raises:
        TypeError: If teacher or data are of another kind.
        ValueError: If labels do not fit the logits, or there are none.

    Example:

    ```python
    logits, labels = 9.0 * np.eye(10) + np.random.normal(0, 3, (10, 10)), np.arange(10)
    suggestion = keras_ats.suggest_temperatures(logits, labels)
    keras_ats.losses.AsymmetricTemperatureKD(
        suggestion.correct_temperature, suggestion.wrong_temperature
    )
    ```
    """
    reading = Reading(from_logits, inputs, output, ignore_label, batch_size, verbose).checked()
    return suggestion_for(said_by(teacher, data, reading))


def suggestion_for(said: Said) -> Suggestion:
    """Returns the suggestion for logits and labels."""
    classes = said.logits.shape[-1]
    spread = float(wrong_spread(said).mean())
    wrong = max(1.0, spread / SPREAD)
    share = 1 / classes + SHARE * (1 - 1 / classes)
    at_wrong = wrong_classes(said, wrong)
    correct = _correct_temperature(said, at_wrong, share)
    reached = correct_share(said, at_wrong, correct)
    reason = (
        f"The wrong logits have a spread of {spread:.2f}, which a wrong temperature of "
        f"{wrong:.2f} brings to {spread / wrong:.2f}. A correct temperature of {correct:.2f} then "
        f"leaves the correct class a mean share of {reached:.2f} of {classes} classes."
    )
    return Suggestion(correct, wrong, reason)


def wrong_spread(said: Said) -> np.ndarray:
    """Returns the standard deviation of each sample's wrong logits, float64, shape `(N,)`."""
    logits = said.logits.astype("float64")
    # Classes that the model does not have say nothing.
    wrong = is_wrong(said) & present_classes(said.logits)
    count = np.maximum(wrong.sum(-1, keepdims=True), 1)
    mean = np.where(wrong, logits, 0.0).sum(-1, keepdims=True) / count
    return np.sqrt((np.where(wrong, logits - mean, 0.0) ** 2).sum(-1) / count[:, 0])


def correct_share(said: Said, wrong: WrongClasses, correct: float) -> float:
    """Returns the mean probability of the correct class at its temperature."""
    odds = log_odds(said, wrong, correct)
    return float(np.exp(-np.logaddexp(0, -odds)).mean())


def _correct_temperature(said: Said, wrong: WrongClasses, share: float) -> float:
    """The temperature, not below the wrong one, that leaves the correct class this share."""
    low, high = wrong.temperature, 100.0 * wrong.temperature
    if correct_share(said, wrong, low) <= share:
        return low  # Unsure already: one temperature for all.
    if correct_share(said, wrong, high) > share:
        return high
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        if correct_share(said, wrong, middle) > share:
            low = middle
        else:
            high = middle
    return float((low * high) ** 0.5)
