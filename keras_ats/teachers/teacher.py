"""What a distiller asks of a teacher, however its outputs come to be."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import keras

from keras_ats.record import Needs, Outputs, Shapes
from keras_ats.types import Nested


@runtime_checkable
class Teacher(Protocol):
    """A source of teacher outputs: a model that is run, or a cache of what one has said.

    Give an instance to `Distiller` in the teacher's place. To be saved in a `.keras` file with the
    distiller it must be registered with Keras and have `get_config`.

    Attributes:
        variables: What a step reads of it, and what JAX hands into the compiled step; empty for a
            cache.
        output_names: Names of its outputs, in order.
        shapes: Shapes of its logits, and of the layers that `prepare` was asked for.
        supports_jit: Whether a step that calls it may be compiled.

    Example:

    ```python
    class FromBatch:
        "Teacher logits that come with the batch, under a key of the inputs."

        variables = ()
        output_names = ["logits"]
        shapes = keras_ats.Shapes()
        supports_jit = True

        def prepare(self, needs):
            if needs.teacher_features:
                raise ValueError("These are logits only; losses on inner layers need the model.")

        def split(self, x):
            return (x["inputs"], x["logits"]) if isinstance(x, dict) else (x, None)

        def __call__(self, given):
            return keras_ats.Outputs(given)

    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    x, y = np.random.rand(32, 8), np.random.randint(0, 3, 32)
    distiller = keras_ats.Distiller(FromBatch(), student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
    distiller.fit({"inputs": x, "logits": teacher.predict(x, verbose=0)}, y, verbose=0)
    ```
    """

    variables: Sequence[keras.Variable]
    output_names: Sequence[str]
    shapes: Shapes
    supports_jit: bool

    def prepare(self, needs: Needs) -> None:
        """Makes ready to show what losses need; called by `compile`.

        Args:
            needs: What all losses together must be shown.

        Raises:
            ValueError: If it cannot show that, with the remedy.
        """

    def split(self, x: Nested) -> tuple[Nested, Any]:
        """Returns the student's inputs, and what this is called with.

        Args:
            x: Inputs as `fit` got them; for `evaluate` and `predict` perhaps without the
                teacher's part.

        Returns:
            Inputs of the student, and the argument of `__call__`.
        """

    def __call__(self, given: Any) -> Outputs:
        """Returns what the teacher says of a batch, without gradient.

        Args:
            given: The second of what `split` returned.

        Returns:
            Logits by output name, or a tensor if there is one output, and the features asked for.
        """
