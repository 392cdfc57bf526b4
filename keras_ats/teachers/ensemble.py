"""Several teachers as one."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_ats.checks import non_negative_number, one_of
from keras_ats.ops.softmax import temperature_log_softmax
from keras_ats.ops.standardize import centered_logits
from keras_ats.record import pick
from keras_ats.teachers.members import check_members, common_families
from keras_ats.types import Config, Nested, Tensor
from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.read import FromLogits
from keras_ats.views.readings import Inverse
from keras_ats.views.view import View


@keras.saving.register_keras_serializable(package="keras_ats")
class Ensemble(keras.Model):
    r"""Teachers that are averaged, for use as one teacher.

    With `combine="probabilities"` the ensemble says what the mixture of its members says,

    $$f = \log \sum_k w_k \, \mathrm{softmax}(f_k) - \mathrm{mean}_c(\cdot)$$

    computed in log space; a wrong but very sure member cannot outshout the others. A mixture has
    no logits of its own. They are given zero mean over the classes, which ATS, the one method here
    that is not invariant to it, needs to know. With `combine="logits"` they are
    $\sum_k w_k f_k$, the geometric mean of what the members say, with their own scale.

    Where members end in sigmoids each unit is a problem of its own, and so is its mixture: the
    logits are $\mathrm{logit} \sum_k w_k \, \sigma(f_k)$. They need no mean.

    Args:
        teachers: Trained, built models with the same inputs and classes, and outputs of the same
            names if they have several; each is read at its logits, as `Distiller` reads its
            teacher.
        weights: One number of at least 0 per teacher, brought to sum 1; None (default) weighs all
            alike.
        combine: `"probabilities"` (default) or `"logits"`.
        from_logits: As `teacher_from_logits` of `Distiller`, for all members. Defaults to None.
        probabilities_of: `"softmax"` or `"sigmoid"`, where no member's ending tells; None (default)
            takes one unit for a sigmoid's and several for those of a softmax.
        name: Name of the model.

    Raises:
        TypeError: If `teachers` is no list of models, or `weights` no list of numbers.
        ValueError: If there are no teachers, one is not built, their inputs, outputs or classes
            differ, or weights do not match.

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
        from_logits: FromLogits = None,
        probabilities_of: Inverse | None = None,
        name: str = "ensemble",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.teachers = _as_models(teachers)
        self.weights_given = _normalised(weights, len(self.teachers))
        self.combine = one_of(combine, "combine", ("probabilities", "logits"))
        self.from_logits = from_logits
        self.probabilities_of = probabilities_of
        if probabilities_of is not None:
            one_of(probabilities_of, "probabilities_of", ("softmax", "sigmoid"))
        views = [View(teacher, from_logits, "teacher") for teacher in self.teachers]
        check_members(views)
        self._families = common_families(views, probabilities_of)
        self._views = [view.with_probabilities_of(self._families) for view in views]
        if len(self._families) > 1:
            self.output_names = list(self._families)
        self.built = True

    def call(self, inputs: Nested, training: bool | None = None) -> Nested:
        """Returns the ensemble's logits, float32, shape `(..., C)`; several by name."""
        said = [view(inputs, training=training).logits for view in self._views]
        mixed = {
            name: self._mix([pick(logits, name) for logits in said], family)
            for name, family in self._families.items()
        }
        return mixed if len(mixed) > 1 else next(iter(mixed.values()))

    def _mix(self, members: list[Tensor], family: Inverse) -> Tensor:
        logits = ops.stack([ops.cast(member, "float32") for member in members])
        weights = ops.convert_to_tensor(self.weights_given, dtype="float32")
        weights = ops.reshape(weights, (-1,) + (1,) * (len(logits.shape) - 1))
        if self.combine == "logits":
            return ops.sum(weights * logits, axis=0)
        shares = ops.log(weights)
        if family == "sigmoid":
            yes, no = (ops.logsumexp(shares + ops.log_sigmoid(f), 0) for f in (logits, -logits))
            return yes - no
        mixture = ops.logsumexp(shares + temperature_log_softmax(logits), axis=0)
        return centered_logits(mixture)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "teachers": [keras.saving.serialize_keras_object(one) for one in self.teachers],
            "weights": self.weights_given,
            "combine": self.combine,
            "from_logits": self.from_logits,
            "probabilities_of": self.probabilities_of,
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


def _as_models(teachers: Any) -> list[keras.Model]:
    expected = "Ensemble([first, second]), all of them built"
    if not isinstance(teachers, list | tuple):
        raise TypeError(
            f"`teachers` must be a list of models. Received: teachers={teachers!r}. Expected: "
            f"{expected}."
        )
    models = [as_keras_model(one, "Each of `teachers`", expected) for one in teachers]
    unbuilt = [model.name for model in models if not model.built]
    if not models or unbuilt:
        raise ValueError(
            "An ensemble needs at least one teacher, all of them built. Received: "
            f"{len(models)} teachers, not built: {unbuilt}."
        )
    return models


def _normalised(weights: Any, count: int) -> list[float]:
    if weights is not None and not isinstance(weights, list | tuple | np.ndarray):
        raise TypeError(
            f"`weights` must hold one number per teacher. Received: weights={weights!r}. Expected: "
            "a list such as [2, 1]."
        )
    given = [1.0] * count if weights is None else list(weights)
    checked = [non_negative_number(weight, "weights") for weight in given]
    if len(checked) != count or sum(checked) <= 0:
        raise ValueError(
            f"`weights` must hold one number per teacher, not all 0. Received: weights={weights!r} "
            f"for {count} teachers."
        )
    return [weight / sum(checked) for weight in checked]
