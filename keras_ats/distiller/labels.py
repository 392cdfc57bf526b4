"""Labels looked at before the first batch, where they lie in memory."""

from typing import Any

import keras
import numpy as np

from keras_ats.ops.labels import are_class_ids


def check_labels_given(labels: Any) -> None:
    """Raises if a supervised loss has no labels to learn from."""
    if labels is None:
        raise ValueError(
            "There are no labels to learn from. Received: y=None. Pass labels to `fit`, or learn "
            "from the teacher alone: compile(loss=None, kd_weight=1.0, "
            "kd_loss=keras_ats.losses.TemperatureKD(4))."
        )


def check_labels_in_memory(labels: Any, logits_shape: Any, ignored: int | None = None) -> None:
    """Raises if labels given as one array do not fit, or hold class ids out of range.

    Args:
        labels: Array of ids or rows.
        logits_shape: Shape of the student's logits; labels of several outputs, and those of logits
            of unknown shape, are not checked.
        ignored: An id that the supervised loss leaves out.
    """
    num_classes = logits_shape[-1] if isinstance(logits_shape, tuple) else None
    # A single sigmoid unit has no class ids: its labels are 0 and 1.
    if num_classes in (None, 1):
        return
    # All samples are looked at, so a batch size that the model was built for says nothing.
    if not are_class_ids(labels, keras.KerasTensor((None, *logits_shape[1:]))):
        return
    ids = keras.ops.convert_to_numpy(labels)
    ids = ids if ignored is None else ids[ids != ignored]
    lowest, highest = np.min(ids, initial=0), np.max(ids, initial=0)
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"Labels must be class ids from 0 to {num_classes - 1}, because the models have "
            f"{num_classes} classes. Received: labels from {lowest} to {highest}. Ids that count "
            "from 1 need `labels - 1`; positions to leave out need a sample weight of 0 or a mask, "
            "and an id within the range."
        )
