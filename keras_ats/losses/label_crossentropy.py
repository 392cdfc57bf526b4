"""The supervised loss that `Distiller.compile(loss="auto")` stands for."""

from typing import Any

import keras
from keras import ops

from keras_ats._gradients import is_worth_own_gradient
from keras_ats._keras import get_keras_mask
from keras_ats.checks import as_string, as_whole_number
from keras_ats.losses.reduction import as_reduction
from keras_ats.ops.absent_classes import finite_logits
from keras_ats.ops.label_range import has_label, invalid_labels, nan_where_invalid
from keras_ats.ops.label_rows import label_cross_entropy
from keras_ats.ops.labels import are_class_ids
from keras_ats.ops.positions import weights_of_positions
from keras_ats.types import Config, Tensor

# Of fewer logits torch's own cross-entropy, a single call, is quicker.
_LEAST_ON_TORCH = 2**16


@keras.saving.register_keras_serializable(package="keras_ats")
class LabelCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with labels, whichever form the labels come in.

    Saves the choice between `SparseCategoricalCrossentropy` and `CategoricalCrossentropy`, and the
    `from_logits=True` that is so easily forgotten: the shape of the labels tells. Logits of minus
    infinity are classes that the student does not have; Keras's own losses give NaN there. Ids out
    of range, and rows with entries outside [0, 1], which are values rather than classes, give NaN
    too, or an error where TensorFlow or PyTorch raises one.

    Args:
        ignore_class: A class id whose positions are left out, such as 255 or -100. Defaults to
            None.
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
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "label_crossentropy",
        **kwargs: Any,
    ) -> None:
        # float32 holds every class id below 2**24 exactly; bfloat16 would turn 257 into 256.
        super().__init__(
            name=as_string(name, "name", "what the loss is called"),
            reduction=as_reduction(reduction),
            dtype="float32",
            **kwargs,
        )
        self.ignore_class = (
            None if ignore_class is None else as_whole_number(ignore_class, "ignore_class")
        )

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Returns the loss of one batch; a weight per sample covers all positions of the sample."""
        weights = None
        if sample_weight is not None:
            weights = weights_of_positions(sample_weight, y_pred[..., 0])
        value = super().__call__(y_true, y_pred, weights)
        # TensorFlow raises an error on a CPU; JAX would take the label for none, as torch does
        # with -100.
        invalid = invalid_labels(y_true, y_pred)
        if self.ignore_class is not None and are_class_ids(y_true, y_pred):
            labelled = has_label(y_true, y_pred, self.ignore_class)
            invalid = ops.logical_and(invalid, labelled)
        return nan_where_invalid(value, invalid, weights, get_keras_mask(y_pred))

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns the cross-entropy of each position, shape `(...,)`."""
        if self.ignore_class is None and is_worth_own_gradient(y_pred, _LEAST_ON_TORCH):
            return label_cross_entropy(y_true, y_pred)
        logits = finite_logits(y_pred)
        if are_class_ids(y_true, logits):
            return keras.losses.sparse_categorical_crossentropy(
                y_true, logits, from_logits=True, ignore_class=self.ignore_class
            )
        return keras.losses.categorical_crossentropy(y_true, logits, from_logits=True)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "ignore_class": self.ignore_class}
