"""How the values of a batch become one number."""

from typing import Any, Literal, TypeAlias, get_args

from keras_ats.checks import one_of

Reduction: TypeAlias = Literal[
    "sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"
]


def as_reduction(value: Any) -> str | None:
    """Returns `value`, or raises if it is no reduction of Keras's; None is `"none"` to Keras."""
    return None if value is None else one_of(value, "reduction", get_args(Reduction))
