"""The base of metrics that read a lesson: which positions count, and sums instead of means."""

import math
from typing import Any, Self

import keras
from keras import ops

from keras_ats._keras import get_keras_mask
from keras_ats.checks import as_boolean, as_string, as_whole_number, one_of, snake_case
from keras_ats.configurable import deserialize, serialize
from keras_ats.ops.label_range import has_label, invalid_labels
from keras_ats.ops.positions import weights_of_positions
from keras_ats.ops.probabilities import centered_log_probabilities
from keras_ats.record import Lesson, Outputs
from keras_ats.types import Config, Tensor


class LessonMetric(keras.metrics.Metric):
    r"""Base of all metrics of keras_ats: the mean of one value per position.

    $$m = \sum_i w_i v_i \Big/ \sum_i w_i$$

    Only the two sums are kept, so the result is that of all data at once, for any batches and any
    number of replicas. Weight 0 and masked positions count for nothing, whatever they hold; a label
    out of range makes the metric NaN, as it does a loss. A subclass implements `values`.

    A metric goes into `compile(distillation_metrics=[...])`, where it is shown the lesson, or
    stands by itself like any Keras metric: `metric.update_state(labels, logits)`.

    Args:
        of: Whose logits of a lesson are looked at, `"teacher"` (default) or `"student"`.
        output: Name of the output, for models with several. Defaults to None.
        from_logits: Whether `update_state` is given logits, as is the default. Probabilities only
            tell logits up to a constant, which matters to asymmetric temperatures. A lesson always
            has logits.
        ignore_label: A class id, such as 255, whose positions are left out. Defaults to None.
        name: Name in the logs. Defaults to the class name in snake case, with `student_` in front
            for `of="student"`.
        dtype: As for `keras.metrics.Metric`. Defaults to None.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `of` is neither of the two.

    Example:

    ```python
    class Confidence(keras_ats.metrics.LessonMetric):
        def values(self, lesson):
            probabilities = keras_ats.ops.temperature_softmax(lesson.teacher.logits)
            return keras.ops.max(probabilities, axis=-1)

    metric = Confidence()
    metric.update_state([0, 1], np.array([[2.0, 0.0], [0.0, 1.0]]))
    metric.result()
    ```
    """

    def __init__(
        self,
        *,
        of: str = "teacher",
        output: str | None = None,
        from_logits: bool = True,
        ignore_label: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        of = one_of(of, "of", ("teacher", "student"))
        if name is None:
            name = snake_case(type(self).__name__)
            name = f"student_{name}" if of == "student" else name
        is_dtype = isinstance(dtype, str | keras.DTypePolicy) and dtype != ""
        if dtype is not None and not is_dtype:
            raise TypeError(
                "`dtype` must be the name of a dtype, such as 'float32', or None. Received: "
                f"dtype={dtype!r} of type {type(dtype).__name__}."
            )
        super().__init__(name=as_string(name, "name", "what the metric is logged by"), dtype=dtype)
        self.of = of
        self.output = None if output is None else as_string(output, "output", "an output's name")
        self.from_logits = as_boolean(from_logits, "from_logits")
        self.ignore_label = (
            None if ignore_label is None else as_whole_number(ignore_label, "ignore_label")
        )
        self.make_state()

    @property
    def needs_labels(self) -> bool:
        """Whether `values` reads the labels; a lesson without them is refused then."""
        return True

    def make_state(self) -> None:
        """Makes the variables that sums are kept in."""
        self.total = self.add_variable(shape=(), initializer="zeros", name="total")
        self.count = self.add_variable(shape=(), initializer="zeros", name="count")

    def values(self, lesson: Lesson) -> Tensor:
        """Returns the value of each position.

        Args:
            lesson: Logits of both sides, float32, shape `(..., C)`, those that are looked at as the
                teacher's; labels in any form of `ops.label_distribution`, or None. It has no
                features, weights or masks.

        Returns:
            float32 tensor of shape `(...,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `values`.")

    def add(self, values: Any, weights: Tensor) -> None:
        """Adds a batch to the sums.

        Args:
            values: What `values` returned, 0 where the weight is.
            weights: float32 tensor of shape `(...,)`.
        """
        self.total.assign_add(ops.cast(ops.sum(values * weights), self.dtype))
        self.count.assign_add(ops.cast(ops.sum(weights), self.dtype))

    def result(self) -> Tensor:
        """Returns the mean over all that was seen; 0 before that."""
        return ops.divide_no_nan(self.total, self.count)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> None:
        """Takes a batch in.

        Args:
            y_true: Labels in any form of `ops.label_distribution`.
            y_pred: Logits of shape `(..., C)`, or probabilities with `from_logits=False`.
            sample_weight: Weight of each position, `(...,)`, or of each sample, `(B,)`.
        """
        said = self._said(y_pred)
        self._update(Lesson(said, said, y_true, sample_weight))

    def update_lesson(self, lesson: Lesson) -> None:
        """Takes in what student and teacher said of a batch; called by `Distiller`.

        Args:
            lesson: The record of a step.

        Raises:
            ValueError: If it has several outputs and none is named, or no labels.
        """
        lesson = self._of_output(lesson)
        if self.of == "student":
            lesson = lesson._replace(teacher=lesson.student)
        self._update(lesson)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        names = ("of", "output", "from_logits", "ignore_label", *self.own_arguments)
        return {**super().get_config(), **{name: serialize(getattr(self, name)) for name in names}}

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """Names of the arguments that a subclass has besides those of `LessonMetric`."""
        return ()

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the metric that `get_config` described."""
        return cls(**{name: deserialize(value) for name, value in config.items()})

    def _said(self, predictions: Tensor) -> Outputs:
        """What a model said, as the record has it."""
        mask = get_keras_mask(predictions)
        if not self.from_logits:
            predictions = centered_log_probabilities(predictions)
        return Outputs(predictions, mask=mask)

    def _of_output(self, lesson: Lesson) -> Lesson:
        if self.output is not None:
            return lesson.of_output(self.output)
        if isinstance(lesson.student.logits, dict):
            raise ValueError(
                f"{type(self).__name__} looks at one output, and the models have several. "
                f"Received: output=None. Expected: one of {list(lesson.student.logits)}."
            )
        return lesson

    def _update(self, lesson: Lesson) -> None:
        if lesson.labels is None and (self.needs_labels or self.ignore_label is not None):
            raise ValueError(
                f"{type(self).__name__} needs labels. Received: labels=None. Give the data labels, "
                "or leave the metric out."
            )
        student, teacher = (
            ops.cast(ops.convert_to_tensor(one.logits), "float32")
            for one in (lesson.student, lesson.teacher)
        )
        counted = self._counted(lesson, teacher)
        if counted is not None:
            # What does not count may hold anything, NaN included.
            rows = ops.expand_dims(counted != 0, -1)
            student, teacher = (ops.where(rows, one, 0.0) for one in (student, teacher))
        values = self.values(Lesson(Outputs(student), Outputs(teacher), lesson.labels))
        positions = ops.zeros_like(teacher[..., 0])
        weights = ops.ones_like(positions) if counted is None else counted
        if self.needs_labels:
            invalid = invalid_labels(lesson.labels, teacher)
            values = keras.tree.map_structure(
                lambda value: ops.where(invalid, math.nan, value), values
            )
        if counted is not None:
            values = keras.tree.map_structure(
                lambda value: ops.where(counted != 0, value, 0.0), values
            )
        self.add(values, weights)

    def _counted(self, lesson: Lesson, logits: Tensor) -> Tensor | None:
        """The weight of each position, float32; None where all count alike."""
        weights = weights_of_positions(lesson.sample_weight, logits[..., 0])
        masks = [] if lesson.student.mask is None else [lesson.student.mask]
        if self.ignore_label is not None:
            labelled = has_label(lesson.labels, logits, self.ignore_label)
            if labelled is None:
                raise ValueError(
                    "`ignore_label` is a class id, and needs labels that are class ids. Received: "
                    f"ignore_label={self.ignore_label} with labels of shape "
                    f"{tuple(lesson.labels.shape)}. Leave it out."
                )
            masks.append(labelled)
        for mask in masks:
            mask = ops.cast(ops.convert_to_tensor(mask), "float32")
            if len(mask.shape) == len(logits.shape):
                mask = ops.squeeze(mask, axis=-1)
            weights = mask if weights is None else weights * mask
        return None if weights is None else ops.broadcast_to(weights, ops.shape(logits)[:-1])
