"""The forms that labels come in: class ids, one-hot rows, soft rows."""

from keras import ops

from keras_ats.ops.arguments import as_rows, check_numeric
from keras_ats.types import Shape, Tensor


def label_distribution(labels: Tensor, logits: Tensor) -> Tensor:
    r"""Labels of any form as one distribution over classes per position.

    Ids become one-hot rows; one-hot and soft rows (mixup, CutMix, label smoothing) stay as they
    are. Everything label-dependent in this package starts from this form, so each rule is defined
    once, for all forms.

    Args:
        labels: Integer ids of shape `(...,)` or `(..., 1)`, in `[0, C)`, or rows that sum to 1 of
            shape `(..., C)`. Ids may be held in a float dtype, as data pipelines often do. An id
            outside `[0, C)`, such as an ignored label, becomes a row of zeros.
        logits: Tensor of shape `(..., C)`; only its shape is used.

    Returns:
        float32 tensor of shape `(..., C)`.

    Raises:
        ValueError: If the labels' shape fits neither form.

    Example:

    ```python
    keras_ats.ops.label_distribution([2, 0], np.zeros((2, 3)))  # [[0, 0, 1], [1, 0, 0]]
    ```
    """
    labels = ops.convert_to_tensor(_as_tensor(labels, "labels"))
    if are_class_ids(labels, logits):
        logits = _as_tensor(logits, "logits")
        if len(labels.shape) == len(logits.shape):
            labels = ops.squeeze(labels, axis=-1)
        # Ids stay integers all the way: bfloat16 would merge 256 and 257. Compared rather than
        # passed to `ops.one_hot`, which on torch refuses an ignored label such as 255.
        ids = ops.expand_dims(ops.cast(labels, "int32"), axis=-1)
        return ops.cast(ids == ops.arange(logits.shape[-1], dtype="int32"), "float32")
    return ops.cast(labels, "float32")


def label_indicator(labels: Tensor, logits: Tensor) -> Tensor:
    """Which class is the label, as True and False.

    Args:
        labels: Labels in any form of `label_distribution`; of a soft row the first largest entry.
        logits: Tensor of shape `(..., C)`; only its shape is used.

    Returns:
        Bool tensor of shape `(..., C)`, one True per row, none for an id out of range.

    Example:

    ```python
    keras_ats.ops.label_indicator([1], np.zeros((1, 3)))  # [[False, True, False]]
    ```
    """
    label = class_of_label(labels, logits)
    return label == ops.arange(_as_tensor(logits, "logits").shape[-1], dtype="int32")


def class_of_label(labels: Tensor, logits: Tensor) -> Tensor:
    """The id of the class that is the label, int32, `(..., 1)`: -1 where there is none.

    Args:
        labels: Labels in any form of `label_distribution`; of a soft row the first largest entry.
        logits: Tensor of shape `(..., C)`; only its shape is used.
    """
    labels = ops.convert_to_tensor(_as_tensor(labels, "labels"))
    if are_class_ids(labels, logits):
        logits = _as_tensor(logits, "logits")
        ids = ops.cast(labels, "int32")
        if len(ids.shape) < len(logits.shape):
            ids = ops.expand_dims(ids, axis=-1)
        is_class = ops.logical_and(ids >= 0, ids < logits.shape[-1])
    else:
        ids = ops.cast(ops.argmax(labels, axis=-1, keepdims=True), "int32")
        is_class = ops.max(labels, axis=-1, keepdims=True) > 0
    return ops.where(is_class, ids, -1)


def top_class_indicator(values: Tensor) -> Tensor:
    """Which class has the largest value, as True and False; the first of equal ones.

    Args:
        values: Tensor of shape `(..., C)`.

    Returns:
        Bool tensor of shape `(..., C)`, one True per row.

    Example:

    ```python
    keras_ats.ops.top_class_indicator(np.array([[0.0, 5.0, 5.0]]))  # [[False, True, False]]
    ```
    """
    values = as_rows(values, "values")
    top = ops.argmax(values, axis=-1, keepdims=True)
    classes = ops.arange(values.shape[-1], dtype="int32")
    return ops.cast(top, "int32") == classes


def are_class_ids(labels: Tensor, logits: Tensor) -> bool:
    """Whether `labels` are ids for `logits`, decided by shape alone.

    Args:
        labels: Tensor of shape `(...,)`, `(..., 1)` or `(..., C)`.
        logits: Tensor of shape `(..., C)`.

    Returns:
        True for ids, False for one-hot or soft rows.

    Raises:
        ValueError: If the labels' shape fits neither form.

    Example:

    ```python
    keras_ats.ops.are_class_ids(np.array([2, 0]), np.zeros((2, 3)))  # True
    ```
    """
    label_shape = tuple(_as_tensor(labels, "labels").shape)
    logit_shape = tuple(_as_tensor(logits, "logits").shape)
    if not logit_shape or logit_shape[-1] == 0:
        raise ValueError(
            "`logits` must have its classes on the last axis, at least one. Received: logits of "
            f"shape {logit_shape}. Expected: shape (..., C), such as (batch, classes)."
        )
    if shapes_fit(label_shape, logit_shape):
        return False
    if shapes_fit(label_shape, logit_shape[:-1]) or shapes_fit(label_shape, (*logit_shape[:-1], 1)):
        return True
    raise ValueError(
        f"Labels of shape {label_shape} do not fit logits of shape {logit_shape}. Expected class "
        f"ids of shape {logit_shape[:-1]} or {(*logit_shape[:-1], 1)}, or one-hot or soft labels "
        f"of shape {logit_shape}."
    )


def shapes_fit(shape: Shape, expected: Shape) -> bool:
    """Whether two shapes are the same as far as they are known."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _as_tensor(values: Tensor, name: str) -> Tensor:
    """Returns what has a shape as it is, a symbolic tensor included, and lists as a tensor."""
    check_numeric(values, name)
    return values if hasattr(values, "shape") else ops.convert_to_tensor(values)
