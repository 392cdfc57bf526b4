"""The model that is compiled and fitted: teacher, student and loss joined."""

from types import SimpleNamespace
from typing import Any

import keras
from keras import ops

from keras_ats import checks
from keras_ats._keras import additional_losses, get_keras_mask, unscale_loss_for_distribution
from keras_ats.logits_view import output_names
from keras_ats.losses.combined_kd import CombinedKD, as_objective
from keras_ats.losses.label_crossentropy import LabelCrossentropy
from keras_ats.pair import TeacherStudentPair
from keras_ats.types import Config, Nested, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Distiller(TeacherStudentPair):
    r"""Trains a student on labels and on a teacher, through the ordinary `fit`.

    An existing script changes in two places: the student is wrapped together with a teacher, and
    `compile` gets a `kd_loss`. Sample weights, class weights, masks, regularisers, callbacks,
    mixed precision and every kind of data work as with any Keras model.

    $$L = w_S \, L_{labels} + w_{KD} \, L_{KD} + \text{regularisation}$$

    Predictions are the student's; the teacher runs in training steps only and is left exactly as
    it was. Models that end in softmax are read at their logits, with shared weights.

    Args:
        teacher: A trained, built `keras.Model`.
        student: The `keras.Model` to train; same inputs and same classes as the teacher.
        teacher_from_logits: True if the teacher returns logits, False if it returns
            probabilities. None (default) reads it off a Sequential or Functional model; a
            subclassed model must say. Logits recovered from the probabilities of a subclassed
            model are only known up to a constant, which matters to ATS.
        student_from_logits: The same for the student.
        name: Name of the model. Defaults to `"distiller"`.
        **kwargs: As for `keras.Model`.

    Raises:
        TypeError: If teacher or student is not a Keras model.
        ValueError: If the teacher is not built, an ending is not known, or class counts differ.

    Example:

    ```python
    teacher = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(3, "softmax")]
    )
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    x, y = np.random.rand(32, 8), np.random.randint(0, 3, 32)

    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
    distiller.fit(x, y, verbose=0)
    distiller.student.predict(x, verbose=0)
    ```

    Reference: Hinton, Vinyals, Dean, 2015, arXiv 1503.02531.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        teacher_from_logits: bool | None = None,
        student_from_logits: bool | None = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            teacher,
            student,
            teacher_from_logits=teacher_from_logits,
            student_from_logits=student_from_logits,
            name=name,
            **kwargs,
        )
        self.kd_loss: Any = None
        self.evaluate_teacher = False
        self.kd_weight = keras.Variable(0.5, trainable=False, dtype="float32", name="kd_weight")
        self._student_weight = keras.Variable(
            0.5, trainable=False, dtype="float32", name="student_weight"
        )
        self._student_weight_follows = True
        self._supervised = True
        self._loss_on_logits = True
        self._in_evaluation = False
        self._student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self._kd_loss_tracker = keras.metrics.Mean(name="kd_loss")
        # In a namespace, because Keras refuses new metrics on a model that is built, and every
        # `compile` may bring other parts.
        self._part_trackers = SimpleNamespace(by_key={})

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: Any = "auto",
        kd_loss: Any = None,
        kd_weight: Any = 0.5,
        student_weight: float | None = None,
        metrics: Any = None,
        *,
        evaluate_teacher: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures training; all that `keras.Model.compile` takes is taken here too.

        Args:
            optimizer: As for Keras. Defaults to `"adam"`.
            loss: The supervised loss, as for Keras, on what the student returns. `"auto"`
                (default) is the cross-entropy of its logits, for ids, one-hot and soft labels.
                None learns from the teacher alone, for which unlabelled data will do.
            kd_loss: A loss of `keras_ats.losses` or its name. A list of losses combines them on
                the same logits; a dict gives each output of the models its own. Required.
            kd_weight: Weight of `kd_loss`, from 0 to 1. Defaults to 0.5. For several losses a list
                or dict of weights, or their sum, shared evenly. The sum is kept as a
                `keras.Variable`, `distiller.kd_weight`, for callbacks.
            student_weight: Weight of `loss`, at least 0; None (default) means `1 - kd_weight`.
            metrics: As for Keras; they see what the student returns.
            evaluate_teacher: Whether `evaluate` and validation run the teacher and report
                `kd_loss`. Defaults to False, which makes them as fast as the student's own, and
                `val_loss` the student's.
            **kwargs: Everything else that `keras.Model.compile` takes.

        Raises:
            TypeError: If `kd_loss` is not a distillation loss, or a weight is not a number.
            ValueError: If `kd_loss` is missing or a weight is out of its range.
        """
        self.kd_loss, total_weight = as_objective(kd_loss, kd_weight)
        self.kd_loss.check_outputs(output_names(self.student))
        self._part_trackers.by_key = {
            key: keras.metrics.Mean(name=part_name)
            for key, part_name in getattr(self.kd_loss, "part_names", {}).items()
        }
        self.kd_weight.assign(total_weight)
        self._student_weight_follows = student_weight is None
        if student_weight is not None:
            self._student_weight.assign(
                checks.non_negative_number(student_weight, "student_weight")
            )
        self.evaluate_teacher = evaluate_teacher
        self._supervised = loss is not None
        self._loss_on_logits = isinstance(loss, str) and loss == "auto"
        supervised = LabelCrossentropy() if self._loss_on_logits else loss
        super().compile(optimizer=optimizer, loss=supervised, metrics=metrics, **kwargs)

    @property
    def student_weight(self) -> Tensor:
        """Present weight of the supervised loss."""
        return 1.0 - self.kd_weight if self._student_weight_follows else self._student_weight

    def compute_loss(
        self,
        x: Nested = None,
        y: Nested = None,
        y_pred: Nested = None,
        sample_weight: Nested = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the objective of one batch; called by Keras."""
        regularization = additional_losses(self)
        if self._supervised:
            checks.labels_given(y)
            predictions = y_pred if self._loss_on_logits else self._view.to_outputs(y_pred)
            # On torch, Keras multiplies a mask into the weights that it is given, in place.
            weights = keras.tree.map_structure(
                lambda weight: None if weight is None else ops.copy(weight), sample_weight
            )
            total = super().compute_loss(x, y, predictions, weights, training=training)
            student_loss = total if regularization is None else total - regularization
            self._track(self._student_loss_tracker, student_loss, x)
        else:
            total = ops.zeros(()) if regularization is None else regularization
        if not (training or self.evaluate_teacher):
            return total
        kd_loss = self._compute_kd_loss(x, y, y_pred, sample_weight)
        objective = self.student_weight * total + self.kd_weight * kd_loss
        if regularization is not None:
            # It is within `total`, at the student's weight; its own weight is 1.
            objective += (1.0 - self.student_weight) * regularization
        return objective

    def compute_metrics(
        self, x: Nested, y: Nested, y_pred: Nested, sample_weight: Nested = None
    ) -> dict[str, Tensor]:
        """Updates the metrics with what the student predicts; called by Keras."""
        predictions = self._view.to_outputs(y_pred)
        logs: dict[str, Tensor] = super().compute_metrics(x, y, predictions, sample_weight)
        return logs

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the student; arguments and return value are those of `keras.Model.fit`."""
        self._check_labels(y)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains on one batch; arguments and return value are those of `keras.Model`."""
        self._check_labels(y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the student; arguments and return value are those of `keras.Model.evaluate`."""
        with self._switched_on("_in_evaluation"):
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates one batch; arguments and return value are those of `keras.Model`."""
        with self._switched_on("_in_evaluation"):
            return super().test_on_batch(*args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that are reported; an evaluation without the teacher has no `kd_loss`."""
        metrics: list[keras.metrics.Metric] = super().metrics
        if self._in_evaluation and not self.evaluate_teacher:
            return [metric for metric in metrics if metric is not self._kd_loss_tracker]
        if not self._supervised:
            metrics = [metric for metric in metrics if metric is not self._student_loss_tracker]
        return [*metrics, *self._part_trackers.by_key.values()]

    @property
    def variables(self) -> list[keras.Variable]:
        """State of student and loss, random seeds included, without the teacher's."""
        return [*super().variables, *self._loss_variables]

    @property
    def weights(self) -> list[keras.Variable]:
        """As `variables`, without random seeds."""
        return [*super().weights, *self._loss_variables]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears all gradients; called by Keras, on torch only."""
        super().zero_grad(set_to_none)
        # torch knows parameters by path, and two learned temperatures have the same one.
        for variable in self._loss_variables:
            variable.value.grad = None

    def get_compile_config(self) -> Config:
        """Returns what `compile` was called with, with the present weights."""
        config: Config = super().get_compile_config()
        if config:
            config |= {
                "loss": "auto" if self._loss_on_logits else config["loss"],
                "kd_loss": keras.saving.serialize_keras_object(self.kd_loss),
                "kd_weight": float(ops.convert_to_numpy(self.kd_weight)),
                "student_weight": None
                if self._student_weight_follows
                else float(ops.convert_to_numpy(self._student_weight)),
                "evaluate_teacher": self.evaluate_teacher,
            }
        return config

    def compile_from_config(self, config: Config) -> None:
        """Compiles as `get_compile_config` described, ready to go on training."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            # Slots must exist before the file's values can be put into them.
            self.optimizer.build(self.trainable_variables)

    @property
    def _loss_variables(self) -> list[keras.Variable]:
        return [] if self.kd_loss is None else self.kd_loss.variables

    def _compute_kd_loss(
        self, x: Nested, y: Nested, y_pred: Nested, sample_weight: Nested
    ) -> Tensor:
        arguments = {
            "student_logits": self._view.to_logits(y_pred),
            "teacher_logits": self._live_teacher(x),
            "labels": y,
            "sample_weight": sample_weight,
            "mask": keras.tree.map_structure(get_keras_mask, y_pred),
        }
        if isinstance(self.kd_loss, CombinedKD):
            parts = self.kd_loss.compute_parts(**arguments, output_names=output_names(self.student))
            for key, tracker in self._part_trackers.by_key.items():
                self._track(tracker, parts[key], x)
            kd_loss = self.kd_loss.combine(parts)
        else:
            kd_loss = self.kd_loss(**arguments)
        self._track(self._kd_loss_tracker, kd_loss, x)
        return kd_loss

    def _track(self, tracker: keras.metrics.Mean, value: Tensor, x: Nested) -> None:
        batch_size = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        tracker.update_state(unscale_loss_for_distribution(value), sample_weight=batch_size)

    def _check_labels(self, y: Any) -> None:
        """Finds class ids out of range before training starts, where the labels lie in memory."""
        view = self._student_view
        if view is None or self.kd_loss is None or not hasattr(y, "shape"):
            return
        if self._loss_on_logits or self.kd_loss.needs_labels:
            ignored = getattr(self.loss, "ignore_class", None)
            checks.labels_in_memory(y, view.output_shapes, ignored)
