"""What `compile` was given for the distillation losses and their weights, in one form."""

import math
from collections.abc import Mapping
from typing import Any

from keras_ats import checks
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.lookup import get

_BESIDE = (
    " `student_weight` is what it leaves of 1: give both weights. Pass a student_weight to "
    "`compile`, such as student_weight=1.0, and any `kd_weight` goes."
)


def as_losses(kd_loss: Any) -> Any:
    """The losses in the form that they were given in: one, a list, or a dict by output."""
    if kd_loss is None:
        raise ValueError(
            "`compile` needs a distillation loss. Received: kd_loss=None. Try "
            "kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2)."
        )
    is_config = isinstance(kd_loss, Mapping) and "class_name" in kd_loss
    if is_config or not isinstance(kd_loss, list | tuple | Mapping):
        losses = get(kd_loss)
    else:
        entries = kd_loss if not isinstance(kd_loss, Mapping) else list(kd_loss.values())
        if not entries or any(entry is None for entry in entries):
            raise ValueError(
                f"`kd_loss` needs at least one loss, and none that is None. Received: {kd_loss!r}."
            )
        if isinstance(kd_loss, Mapping):
            losses = {name: get(entry) for name, entry in kd_loss.items()}
        else:
            losses = [get(entry) for entry in entries]
    for loss in by_key(losses).values():
        if loss.reduction in (None, "none"):
            raise ValueError(
                "A loss that trains must give one number. Received: "
                f"{type(loss).__name__}(reduction={loss.reduction!r}). Leave `reduction` out."
            )
    return losses


def by_key(losses: Any) -> dict[Any, DistillationLoss]:
    """The losses by output name, or by their place."""
    if isinstance(losses, dict):
        return losses
    return dict(enumerate(losses if isinstance(losses, list) else [losses]))


def weight_check(student_weight_follows: bool) -> checks.Check:
    """Returns what the weight of all distillation losses must pass, now and when it is assigned."""
    return _share_of_one if student_weight_follows else checks.non_negative_number


def as_weights(
    kd_weight: Any, losses: dict[Any, DistillationLoss], student_weight_follows: bool
) -> tuple[dict[Any, float], float]:
    """The share of each loss, and the weight of them all."""
    if not isinstance(kd_weight, list | tuple | Mapping):
        shares = dict.fromkeys(losses, 1.0)
        total = weight_check(student_weight_follows)(kd_weight, "kd_weight")
    else:
        by_name = isinstance(kd_weight, Mapping)
        given = dict(kd_weight) if by_name else dict(enumerate(kd_weight))
        if set(given) != set(losses):
            raise ValueError(
                "`kd_weight` must hold one weight for each loss. Received: weights for "
                f"{list(given)} and losses for {list(losses)}."
            )
        shares = {key: checks.non_negative_number(given[key], "kd_weight") for key in losses}
        total = math.fsum(shares.values())
        if total <= 0:
            raise ValueError(
                "At least one weight must be above 0. Received: "
                f"kd_weight={kd_weight!r}. To train without a teacher, use the student alone."
            )
    if student_weight_follows and total > 1 and not math.isclose(total, 1):
        raise ValueError(
            f"The sum of `kd_weight` must be within [0, 1]. Received: kd_weight={kd_weight!r}."
            f"{_BESIDE}"
        )
    return shares, min(total, 1.0) if student_weight_follows else total


def _share_of_one(value: Any, name: str) -> float:
    try:
        return checks.fraction(value, name)
    except ValueError as error:
        raise ValueError(f"{error}{_BESIDE}") from None
