"""Several teachers as one."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_ats.checks import non_negative_number, one_of
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.ops.standardize import centered_logits
from keras_ats.types import Config, Nested, Tensor
from keras_ats.views.logits_view import logits_view


@keras.saving.register_keras_serializable(package="keras_ats")
class Ensemble(keras.Model):
    r"""Teachers that are averaged, for use as one teacher.

    With `combine="probabilities"` the ensemble says what the mixture of its members says,

    $$f = \log \sum_k w_k \, \mathrm{softmax}(f_k) - \mathrm{mean}_c(\cdot)$$

    computed in log space; a wrong but very sure member cannot outshout the others. A mixture has
    no logits of its own. They are given zero mean over the classes, which ATS, the one method here
    that is not invariant to it, needs to know. With `combine="logits"` they are
    $\sum_k w_k f_k$, the geometric mean of what the members say, with their own scale.

    Args:
        teachers: Trained, built models with the same inputs and classes; each is read at its
            logits, as `Distiller` reads its teacher.
        weights: One number of at least 0 per teacher, brought to sum 1; None (default) weighs all
            alike.
        combine: `"probabilities"` (default) or `"logits"`.
        from_logits: As `teacher_from_logits` of `Distiller`, for all members. Defaults to None.
        name: Name of the model.

    Raises:
        ValueError: If there are no teachers, one is not built, or weights do not match.

    Example:

    ```python
    teachers = [
        keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")]) for _ in range(2)
    ]
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    distiller = keras_ats.Distiller(keras_ats.teachers.Ensemble(teachers), student)
    ```
    """

    returns_logits = True

    def __init__(
        self,
        teachers: Sequence[keras.Model],
        weights: Sequence[float] | None = None,
        *,
        combine: str = "probabilities",
        from_logits: bool | None = None,
        name: str = "ensemble",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        unbuilt = [teacher.name for teacher in teachers if not teacher.built]
        if not teachers or unbuilt:
            raise ValueError(
                "An ensemble needs at least one teacher, all of them built. Received: "
                f"{len(teachers)} teachers, not built: {unbuilt}."
            )
        self.weights_given = _normalised(weights, len(teachers))
        self.combine = one_of(combine, "combine", ("probabilities", "logits"))
        self.from_logits = from_logits
        self.teachers = list(teachers)
        self._views = [logits_view(teacher, from_logits, "teacher") for teacher in teachers]
        self.built = True

    def call(self, inputs: Nested, training: bool | None = None) -> Tensor:
        """Returns the ensemble's logits, float32, shape `(..., C)`."""
        logits = [
            ops.cast(view.to_logits(view.model(inputs, training=training)), "float32")
            for view in self._views
        ]
        weights = ops.convert_to_tensor(self.weights_given, dtype="float32")
        weights = ops.reshape(weights, (-1,) + (1,) * len(logits[0].shape))
        if self.combine == "logits":
            return ops.sum(weights * ops.stack(logits), axis=0)
        members = ops.stack([temperature_log_softmax(member) for member in logits])
        mixture = ops.logsumexp(members + ops.log(weights), axis=0)
        return centered_logits(mixture)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "teachers": [keras.saving.serialize_keras_object(one) for one in self.teachers],
            "weights": self.weights_given,
            "combine": self.combine,
            "from_logits": self.from_logits,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """Builds the ensemble that `get_config` described."""
        teachers = [
            keras.saving.deserialize_keras_object(one, custom_objects=custom_objects)
            for one in config["teachers"]
        ]
        return cls(**{**config, "teachers": teachers})


def _normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count or sum(given) <= 0:
        raise ValueError(
            f"`weights` must hold one number per teacher, not all 0. Received: weights={weights!r} "
            f"for {count} teachers."
        )
    checked = [non_negative_number(weight, "weights") for weight in given]
    return [weight / sum(checked) for weight in checked]
