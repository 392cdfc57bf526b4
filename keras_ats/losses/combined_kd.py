"""Several distillation losses at once, on one output or on several."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_ats.checks import fraction, non_negative_number
from keras_ats.configurable import serialize
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.lookup import get
from keras_ats.types import Config, Nested, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class CombinedKD(KDLoss):
    r"""The weighted mean of several losses, $L = \sum_i w_i L_i / \sum_i w_i$.

    `Distiller.compile(kd_loss=[a, b], kd_weight=[0.3, 0.2])` builds one, and so does
    `kd_loss={"output": a, ...}` for models with several outputs. Each part is logged by its name.

    Args:
        losses: A list of losses on the same logits, or a dict from output name to loss.
        weights: As many numbers of at least 0, list or dict alike; None (default) weighs all
            alike. Kept as `keras.Variable`.
        name: Name of the loss.

    Raises:
        ValueError: If there are no losses, or weights do not match them.

    Example:

    ```python
    from keras_ats.losses import CombinedKD, LogitMSE, TemperatureKD

    loss = CombinedKD([TemperatureKD(4.0), LogitMSE()], weights=[0.9, 0.1])
    loss(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]]))
    ```
    """

    def __init__(
        self,
        losses: Sequence[Any] | Mapping[str, Any],
        weights: Sequence[float] | Mapping[str, float] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.by_output = isinstance(losses, Mapping)
        parts = dict(losses) if self.by_output else dict(enumerate(losses))
        if not parts or None in parts.values():
            raise ValueError(f"CombinedKD needs at least one loss. Received: losses={losses!r}.")
        self.parts: dict[Any, KDLoss] = {key: get(part) for key, part in parts.items()}
        given = _as_dict(weights, self.parts)
        self.weights = {
            key: self.add_variable(non_negative_number(given[key], "kd_weight"), f"weight_{key}")
            for key in self.parts
        }
        if sum(given.values()) <= 0:
            raise ValueError(
                "At least one weight must be above 0. Received: "
                f"weights={weights!r}. To train without a teacher, use the student alone."
            )
        self.needs_labels = any(part.needs_labels for part in self.parts.values())

    @property
    def part_names(self) -> dict[Any, str]:
        """The name that each part is logged by: its output's, or its own; never twice the same."""
        if self.by_output:
            return {key: f"{key}_kd_loss" for key in self.parts}
        names: dict[Any, str] = {}
        for key, part in self.parts.items():
            taken = part.name in names.values()
            names[key] = f"{part.name}_{key}" if taken else part.name
        return names

    def compute_parts(
        self,
        student_logits: Nested,
        teacher_logits: Nested,
        labels: Nested = None,
        sample_weight: Nested = None,
        mask: Nested = None,
        output_names: Sequence[str] | None = None,
    ) -> dict[Any, Tensor]:
        """Returns the unweighted value of each part.

        Args:
            student_logits: As for `KDLoss`; by output, a dict or a list of them.
            teacher_logits: Likewise.
            labels: Likewise.
            sample_weight: Likewise; one tensor serves all outputs.
            mask: Likewise.
            output_names: The names that lists go by.

        Returns:
            A dict of scalars with the keys of `parts`.
        """

        def of_output(values: Nested, key: Any) -> Nested:
            if not self.by_output or not isinstance(values, list | tuple | Mapping):
                return values
            if isinstance(values, Mapping):
                return values[key]
            return values[list(output_names or ()).index(key)]

        return {
            key: part(
                of_output(student_logits, key),
                of_output(teacher_logits, key),
                labels=of_output(labels, key),
                sample_weight=of_output(sample_weight, key),
                mask=of_output(mask, key),
            )
            for key, part in self.parts.items()
        }

    def combine(self, parts: dict[Any, Tensor]) -> Tensor:
        """Returns the weighted mean of what `compute_parts` returned."""
        weighted = sum(self.weights[key] * value for key, value in parts.items())
        return weighted / sum(weight.value for weight in self.weights.values())

    def __call__(
        self,
        student_logits: Nested,
        teacher_logits: Nested,
        labels: Nested = None,
        sample_weight: Nested = None,
        mask: Nested = None,
    ) -> Tensor:
        """Returns the weighted mean of the parts, a scalar."""
        parts = self.compute_parts(student_logits, teacher_logits, labels, sample_weight, mask)
        return self.combine(parts)

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raises if the losses do not fit a student with these outputs."""
        if not self.by_output:
            super().check_outputs(names)
        elif not set(self.parts) <= set(names):
            raise ValueError(
                "`kd_loss` names outputs that the student does not have. Received: "
                f"{list(self.parts)}. Expected: some of {list(names)}."
            )

    def get_config(self) -> Config:
        """Returns the constructor's arguments, with the present values of variables."""
        losses = {key: serialize(part) for key, part in self.parts.items()}
        weights = {key: serialize(weight) for key, weight in self.weights.items()}
        return {
            "losses": losses if self.by_output else list(losses.values()),
            "weights": weights if self.by_output else list(weights.values()),
            "name": self.name,
        }


def _as_dict(weights: Any, parts: dict[Any, KDLoss]) -> dict[Any, float]:
    if weights is None:
        return dict.fromkeys(parts, 1.0)
    given = dict(weights) if isinstance(weights, Mapping) else dict(enumerate(weights))
    if set(given) != set(parts):
        raise ValueError(
            "There must be one weight for each loss. Received: weights for "
            f"{list(given)} and losses for {list(parts)}."
        )
    return given


def as_objective(kd_loss: Any, kd_weight: Any) -> tuple[KDLoss, float]:
    """Turns what `Distiller.compile` was given into one loss and its weight.

    Args:
        kd_loss: A loss, its name or config, or a list or dict of these.
        kd_weight: A number, or for several losses a list or dict of numbers.

    Returns:
        The loss, and its weight within [0, 1].

    Raises:
        TypeError: If these are no losses or no numbers.
        ValueError: If `kd_loss` is None or weights do not fit.
    """
    if kd_loss is None:
        raise ValueError(
            "`compile` needs a distillation loss. Received: kd_loss=None. Try "
            "kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2)."
        )
    is_config = isinstance(kd_loss, Mapping) and "class_name" in kd_loss
    if is_config or not isinstance(kd_loss, list | tuple | Mapping):
        return get(kd_loss), fraction(kd_weight, "kd_weight")
    if not isinstance(kd_weight, list | tuple | Mapping):
        return CombinedKD(kd_loss), fraction(kd_weight, "kd_weight")
    weights = kd_weight.values() if isinstance(kd_weight, Mapping) else kd_weight
    return CombinedKD(kd_loss, kd_weight), fraction(sum(weights), "the sum of `kd_weight`")
