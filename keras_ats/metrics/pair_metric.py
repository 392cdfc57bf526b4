"""The base of metrics that hold what the student says against what the teacher says."""

from typing import Any, TypedDict, Unpack

from keras_ats.metrics.lesson_metric import LessonMetric
from keras_ats.record import Lesson
from keras_ats.types import Tensor


class PairOptions(TypedDict, total=False):
    """What a metric of two models takes besides its own arguments; see `LessonMetric`."""

    output: str | None
    from_logits: bool
    name: str | None
    dtype: Any


class PairMetric(LessonMetric):
    """Base of metrics of two models; they read no labels.

    Args:
        **options: As for `LessonMetric`.
    """

    def __init__(self, **options: Unpack[PairOptions]) -> None:
        super().__init__(**options)

    @property
    def needs_labels(self) -> bool:
        """Whether `values` reads labels: no."""
        return False

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        """Takes a batch in.

        Args:
            y_true: The teacher's logits, shape `(..., C)`, or probabilities with
                `from_logits=False`.
            y_pred: The student's, likewise.
            sample_weight: Weight of each position, `(...,)`, or of each sample, `(B,)`.
        """
        self._update(Lesson(self._said(y_pred), self._said(y_true), None, sample_weight))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        return {name: config[name] for name in config if name not in ("of", "ignore_label")}
