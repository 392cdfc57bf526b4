"""The supervised loss that `Distiller.compile(loss="auto")` stands for."""

from typing import Any

import keras

from keras_ats.ops.labels import are_class_ids
from keras_ats.ops.positions import weights_of_positions
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class LabelCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with labels, whichever form the labels come in.

    Saves the choice between `SparseCategoricalCrossentropy` and `CategoricalCrossentropy`, and the
    `from_logits=True` that is so easily forgotten: the shape of the labels tells.

    Args:
        reduction: As for `keras.losses.Loss`.
        name: Name of the loss. Defaults to `"label_crossentropy"`.

    Example:

    ```python
    loss = keras_ats.losses.LabelCrossentropy()
    loss(np.array([0]), np.array([[2.0, 0.0]]))  # class ids
    loss(np.array([[0.9, 0.1]]), np.array([[2.0, 0.0]]))  # one-hot or soft rows
    ```
    """

    def __init__(
        self,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str = "label_crossentropy",
        **kwargs: Any,
    ) -> None:
        # float32 holds every class id below 2**24 exactly; bfloat16 would turn 257 into 256.
        super().__init__(name=name, reduction=reduction, dtype="float32", **kwargs)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Returns the loss of one batch; a weight per sample covers all positions of the sample."""
        weights = weights_of_positions(sample_weight, y_pred[..., 0])
        return super().__call__(y_true, y_pred, weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the cross-entropy of each position, shape `(...,)`."""
        if are_class_ids(y_true, y_pred):
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True)
