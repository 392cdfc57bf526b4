"""How the student follows its teacher, on samples that stay the same."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ats.checks import as_string
from keras_ats.distiller.arguments import as_lesson_metrics
from keras_ats.distiller.distiller import Distiller
from keras_ats.metrics.expected_calibration_error import ExpectedCalibrationError
from keras_ats.metrics.lesson_metric import LessonMetric
from keras_ats.metrics.teacher_agreement import TeacherAgreement
from keras_ats.metrics.teacher_divergence import TeacherDivergence
from keras_ats.types import Config, Nested


class DistillationMonitor(keras.callbacks.Callback):
    """Measures teacher and student on fixed samples after each epoch, and puts it into the logs.

    Everything that reads logs shows it: History, TensorBoard, CSVLogger, EarlyStopping. Give it
    before them in the list of callbacks. Metrics of the training batches themselves go into
    `compile(distillation_metrics=[...])`; these here are of held-out samples, and of a student at
    rest.

    Args:
        x: Inputs of some hundred samples, as `fit` takes them.
        y: Their labels.
        metrics: Metrics of `keras_ats.metrics`. None (default) takes agreement with the teacher,
            divergence from it, and the student's calibration error.
        sample_weight: Weight of each sample. Defaults to None.
        prefix: What names in the logs begin with. Defaults to `"monitor_"`.

    Raises:
        TypeError: If `metrics` are none, or the model is not a distiller.
        ValueError: If inputs and labels are not as many, or two metrics have one name.

    Example:

    ```python
    x, y = np.random.rand(32, 8), np.random.randint(0, 3, 32)
    monitor = keras_ats.callbacks.DistillationMonitor(
        x, y, [keras_ats.metrics.TeacherAgreement(), keras_ats.metrics.TeacherDivergence(4.0)]
    )
    ```
    """

    def __init__(
        self,
        x: Nested,
        y: Any,
        metrics: Sequence[LessonMetric] | None = None,
        *,
        sample_weight: Any = None,
        prefix: str = "monitor_",
    ) -> None:
        super().__init__()
        leaves = keras.tree.flatten(x)
        if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
            raise TypeError(
                "`x` must be an array of inputs, or a dict or list of them. Received: "
                f"x={x!r} of type {type(x).__name__}."
            )
        if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(y)):
            raise TypeError(
                f"`y` must be an array of labels. Received: y={y!r} of type {type(y).__name__}."
            )
        if sample_weight is not None and not hasattr(sample_weight, "shape"):
            raise TypeError(
                "`sample_weight` must be an array, one weight for each sample, or None. Received: "
                f"sample_weight={sample_weight!r} of type {type(sample_weight).__name__}."
            )
        sizes = [one.shape[0] for one in (*leaves, *keras.tree.flatten(y)) if len(one.shape)]
        if len(set(sizes)) > 1:
            raise ValueError(
                "`x` and `y` must have as many samples. Received: arrays of "
                f"{', '.join(map(str, sizes))}."
            )
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.prefix = as_string(prefix, "prefix", "what names in the logs begin with")
        if metrics is None:
            metrics = [
                TeacherAgreement(),
                TeacherDivergence(),
                ExpectedCalibrationError(of="student"),
            ]
        self.metrics = as_lesson_metrics(metrics, "metrics")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(
                "`metrics` must each have a name of its own in the logs. Received: metrics named "
                f"{names}. Pass name=, as in TeacherDivergence(4.0, name='divergence_at_4')."
            )

    def on_train_begin(self, logs: Config | None = None) -> None:
        """Finds out whether there is a teacher; called by Keras."""
        if not isinstance(self.model, Distiller):
            raise TypeError(
                "DistillationMonitor watches a distiller. Received: "
                f"{type(self.model).__name__} '{self.model.name}'. Expected: Distiller(teacher, "
                "student).fit(..., callbacks=[DistillationMonitor(x, y)])."
            )

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        """Measures; called by Keras."""
        lesson = self.model.lesson(self.x, self.y, self.sample_weight)
        for metric in self.metrics:
            metric.reset_state()
            metric.update_lesson(lesson)
            if logs is not None:
                value = float(keras.ops.convert_to_numpy(metric.result()))
                logs[f"{self.prefix}{metric.name}"] = value
