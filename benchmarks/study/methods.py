"""The methods of the study: which loss, and what of a setting is assigned to it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_ats import features, losses
from keras_ats.adjustments import Standardize, Swap
from keras_ats.temperatures import FocalWeighted, StandardDeviation


class Method(NamedTuple):
    """A method.

    Attributes:
        build: Makes the loss of a setting; it is compiled once and then assigned to.
        variables: The loss's variables that a setting decides.
        kd_weight: Of the teacher's term where the setting does not say; the labels have the rest.
        student_weight: Weight of the labels, where it is not the rest.
    """

    build: Callable[[], Any]
    variables: Callable[[Any, dict[str, Any]], list[tuple[Any, float]]]
    kd_weight: float = 0.5
    student_weight: float | None = None


def _pair(loss: Any, setting: dict[str, Any]) -> list[tuple[Any, float]]:
    correct, wrong = setting.get("pair", (1.0, 1.0))
    return [(loss.correct_temperature, correct), (loss.wrong_temperature, wrong)]


def _named(name: str) -> Callable[[Any, dict[str, Any]], list[tuple[Any, float]]]:
    return lambda loss, setting: [(getattr(loss, name), setting[name])]


def _of_rule(name: str, key: str) -> Callable[[Any, dict[str, Any]], list[tuple[Any, float]]]:
    return lambda loss, setting: [(getattr(loss.temperature_rule, name), setting[key])]


TWO_TEMPERATURES = Method(losses.AsymmetricTemperatureKD, _pair)
METHODS: dict[str, Method] = {
    # The same compiled step with weight 0: the labels alone.
    "labels alone": TWO_TEMPERATURES._replace(kd_weight=0.0),
    "one temperature": TWO_TEMPERATURES,
    "ATS": TWO_TEMPERATURES,
    "suggested": TWO_TEMPERATURES,
    "calibrated": TWO_TEMPERATURES,
    "unit spread": TWO_TEMPERATURES,
    "equal maximum": TWO_TEMPERATURES,
    "ensemble": TWO_TEMPERATURES,
    "early-stopped teacher": TWO_TEMPERATURES,
    "assistant chain": TWO_TEMPERATURES,
    "label smoothing": Method(losses.LabelSmoothing, _named("smoothing"), kd_weight=1.0),
    "KD": Method(losses.TemperatureKD, _named("temperature")),
    "LA + ATS": Method(lambda: losses.AsymmetricTemperatureKD(adjustment=Swap()), _pair),
    "DTD": Method(
        lambda: losses.DynamicTemperatureKD(FocalWeighted()), _of_rule("temperature", "temperature")
    ),
    "DKD": Method(losses.DecoupledKD, _named("wrong_weight")),
    "NormKD": Method(
        lambda: losses.SoftTargetKD(StandardDeviation()), _of_rule("factor", "factor")
    ),
    "standardised KD": Method(
        lambda: losses.TemperatureKD(adjustment=Standardize()), _named("temperature")
    ),
    "hint": Method(lambda: features.Hint("hidden", "hidden"), lambda loss, setting: [], 1.0, 1.0),
}
