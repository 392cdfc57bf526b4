"""The model that is compiled and fitted: teacher, student and loss joined."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Self

import keras
from keras import ops

from keras_ats import checks
from keras_ats._keras import (
    ModelWithSafeState,
    additional_losses,
    check_compile,
    in_symbolic_scope,
)
from keras_ats.distiller.arguments import (
    as_lesson_metrics,
    check_losses,
    check_metrics,
    check_optimizer,
)
from keras_ats.distiller.augmentation import (
    Augmentation,
    as_augmentation,
    augmented,
    build_layers,
    check_can_be_shown,
    seeds_of,
)
from keras_ats.distiller.hints import (
    hint_if_nothing_is_learned,
    hint_if_plain_checkpoint,
    hint_if_student_augments,
    hint_if_student_has_own_steps,
    hint_if_teacher_is_small,
)
from keras_ats.distiller.labels import (
    check_labels_are_kept,
    check_labels_for_metrics,
    check_labels_given,
    check_labels_in_memory,
    label_rule,
)
from keras_ats.distiller.objective import Objective, track
from keras_ats.distiller.pair import Pair
from keras_ats.distiller.phase import during, is_during
from keras_ats.distiller.supervised import auto_loss, check_loss
from keras_ats.record import Lesson, Needs, Outputs, pick
from keras_ats.teachers.live import LiveTeacher, TeacherInputs
from keras_ats.teachers.teacher import Teacher
from keras_ats.types import Config, Nested, Tensor
from keras_ats.views.read import FromLogits
from keras_ats.views.view import View

_FIXED = (
    "teacher",
    "student",
    "teacher_from_logits",
    "student_from_logits",
    "teacher_inputs",
    "augmentation",
)
_SEED_PREFIXES = ("seed_", "augmentation_seed_")

# An objective and its variables. Keras asks for them several times in a step, which runs in Python
# on torch. Not an attribute of the model: its steps may run in several threads.
_OF_STEP: ContextVar[tuple[Objective | None, Sequence[keras.Variable]]] = ContextVar(
    "keras_ats_of_step", default=(None, ())
)


@keras.saving.register_keras_serializable(package="keras_ats")
class Distiller(ModelWithSafeState):
    r"""Trains a student on labels and on a teacher, through the ordinary `fit`.

    An existing script changes in two places: the student is wrapped together with a teacher, and
    `compile` gets a `kd_loss`. Sample weights, class weights, masks, regularisers, callbacks,
    mixed precision and every kind of data work as with any Keras model.

    $$L = w_S \, L_{labels} + w_{KD} \, L_{KD} + \text{regularisation}$$

    Predictions are the student's; the teacher runs in training steps only and is left exactly as
    it was. Models that end in softmax are read at their logits, with shared weights.

    Args:
        teacher: A trained, built `keras.Model`, or a `keras_ats.teachers.Teacher`.
        student: The `keras.Model` to train; same inputs and same classes as the teacher.
        teacher_from_logits: True if the teacher returns logits, False if it returns
            probabilities. None (default) reads it off a Sequential or Functional model; a
            subclassed model must say. Logits recovered from the probabilities of a subclassed
            model are only known up to a constant, which matters to ATS.
        student_from_logits: The same for the student.
        teacher_inputs: What the teacher is shown, where it is not what the student is shown: a
            function of a batch of inputs (another size, another normalisation), or a key of inputs
            that are a dict; the student then gets the rest. Where inputs are a dict and this is
            None, each model gets the entries that its inputs are named after.
        augmentation: What changes the inputs in training steps, once for both models: a layer such
            as `keras.layers.RandomFlip()`, which is called with `training=True` and whose random
            state is saved; a function of the inputs; or, where inputs are a dict, a dict of these.
            Labels stay as they are. None (default) changes nothing.
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
        teacher: keras.Model | Teacher,
        student: keras.Model,
        *,
        teacher_from_logits: FromLogits = None,
        student_from_logits: FromLogits = None,
        teacher_inputs: TeacherInputs = None,
        augmentation: Augmentation = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        augmentation = as_augmentation(augmentation)
        pair = Pair(teacher, student, teacher_from_logits, student_from_logits, teacher_inputs)
        if augmentation is not None:
            check_can_be_shown(pair.teacher)
        if isinstance(pair.teacher, LiveTeacher):
            hint_if_teacher_is_small(pair.teacher.model, student)
        hint_if_student_augments(pair.teacher, student)
        # The student's own precision, so that Keras scales the loss for float16. Inputs are left
        # to the models: casting them here would take digits from a float32 teacher.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        self.student = student
        self.teacher_from_logits = teacher_from_logits
        self.student_from_logits = student_from_logits
        self.teacher_inputs = teacher_inputs
        self.augmentation = augmentation
        self.evaluate_teacher = False
        self.supports_jit = pair.teacher.supports_jit
        self._pair = pair
        self._objective: Objective | None = None
        self._loss_on_logits = True
        self._student_was_looked_at = False
        # In a tuple, because Keras refuses new metrics on a model that is built.
        self._lesson_metrics: tuple[Any, ...] = ()
        self.built = pair.is_viewed and bool(student.built)

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
        distillation_metrics: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        """Configures training; all that `keras.Model.compile` takes is taken here too.

        Args:
            optimizer: As for Keras. Defaults to `"adam"`.
            loss: The supervised loss, as for Keras, on what the student returns. `"auto"`
                (default) is the cross-entropy of its logits, for ids, one-hot and soft labels.
                None learns from the teacher alone, for which unlabelled data will do.
            kd_loss: A loss of `keras_ats.losses` or its name. A list of losses adds them up on the
                same outputs; a dict gives each output of the models its own. Required.
            kd_weight: Weight of `kd_loss`, at least 0, and at most 1 where `student_weight` follows
                from it. Defaults to 0.5. For several losses a list or dict of weights, or their
                sum, shared evenly. The sum is kept as a `keras.Variable`, `distiller.kd_weight`,
                for callbacks.
            student_weight: Weight of `loss`, at least 0; None (default) means `1 - kd_weight`.
            metrics: As for Keras; they see what the student returns.
            evaluate_teacher: Whether `evaluate` and validation run the teacher and report
                `kd_loss`. Defaults to False, which makes them as fast as the student's own, and
                `val_loss` the student's; learning from the teacher alone implies it.
            distillation_metrics: Metrics with a method `update_lesson(lesson)`, which see what
                student and teacher said of a batch. Reported wherever the teacher is run.
            **kwargs: Everything else that `keras.Model.compile` takes.

        Raises:
            TypeError: If `kd_loss` is not a distillation loss, or a weight is not a number.
            ValueError: If `kd_loss` is missing or a weight is out of its range.
        """
        objective = Objective(kd_loss, kd_weight, student_weight)
        evaluate_teacher = checks.as_boolean(evaluate_teacher, "evaluate_teacher")
        lesson_metrics = as_lesson_metrics(distillation_metrics)
        check_optimizer(optimizer)
        check_metrics(metrics)
        check_metrics(kwargs.get("weighted_metrics"), "weighted_metrics")
        is_auto = isinstance(loss, str) and loss == "auto"
        if not is_auto:
            check_losses(loss)
        # What raises below must leave everything as it was.
        with self._prepared(objective) as view:
            if view is not None and not is_auto:
                check_loss(loss, view)
            supervised = auto_loss(view, objective.losses_by_output) if is_auto else loss
            if isinstance(supervised, dict) and view is not None:
                # Keras asks for a loss of each output that stands in a list.
                supervised = dict.fromkeys(view.output_names) | supervised
            given = {"optimizer": optimizer, "loss": supervised, "metrics": metrics, **kwargs}
            check_compile(self, given)
        # Keras keeps the loss of an earlier `compile` where this one has none.
        self._compile_loss = self.loss = None
        super().compile(**given)
        self._objective = objective
        self._loss_on_logits = is_auto
        self._lesson_metrics = lesson_metrics
        # Without labels the teacher is all that a validation can be held against.
        self.evaluate_teacher = evaluate_teacher or loss is None
        hint_if_nothing_is_learned(objective, has_labels=loss is not None)
        if not self._student_was_looked_at:
            self._student_was_looked_at = True
            hint_if_student_has_own_steps(self.student)

    @property
    def teacher(self) -> Any:
        """The teacher, as it was given."""
        # Keras saves what it finds in attributes: a file of weights leaves the teacher out.
        if is_during(self, "weights file"):
            raise AttributeError("The teacher is left out of weights files.")
        return self._pair.given_teacher

    @property
    def kd_loss(self) -> Any:
        """The distillation loss, or the list or dict of them; None before `compile`."""
        return None if self._objective is None else self._objective.kd_loss

    @property
    def kd_weight(self) -> keras.Variable:
        """Weight of the distillation loss, a variable that callbacks may `assign`."""
        return self._compiled.kd_weight

    @kd_weight.setter
    def kd_weight(self, value: float) -> None:
        self._compiled.kd_weight = value

    @property
    def student_weight(self) -> Tensor:
        """Present weight of the supervised loss."""
        return self._compiled.student_weight

    @property
    def student_weight_follows(self) -> bool:
        """Whether the supervised loss weighs what `kd_weight` leaves of 1."""
        return self._compiled.given_student_weight is None

    @property
    def output_names(self) -> list[str]:
        """Names of the student's outputs, by which Keras finds losses and metrics."""
        if not self._pair.is_viewed:
            raise AttributeError("The student is not built, so its outputs have no names yet.")
        return self._pair.view.output_names

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; what the distiller was made with stays as it is."""
        if name in _FIXED and getattr(self, "_pair", None) is not None:
            raise AttributeError(
                f"The {name} of a distiller cannot be exchanged. Received: {value!r}. Make a new "
                "one: Distiller(teacher, student)."
            )
        if name in ("kd_loss", "student_weight"):
            raise AttributeError(
                f"The {name} of a distiller is what it was compiled with. Received: {value!r}. "
                f"Call `compile` again with {name}=...; what callbacks change are variables: "
                "distiller.kd_weight.assign(...), distiller.kd_loss.temperature.assign(...)."
            )
        if name == "evaluate_teacher":
            value = checks.as_boolean(value, name)
            self.test_function = None  # The compiled step runs the teacher or does not.
        super().__setattr__(name, value)

    def build(self, input_shape: Any) -> None:
        """Builds a Sequential student that waited for its input shape; called by Keras."""
        if not self._pair.is_viewed:
            self._pair.build_student(input_shape)
            if self._objective is not None:
                with self._prepared(self._objective):
                    pass

    def look_at_batch(self, batch: Any) -> None:
        """Finds what can be no label in the batch of a pipeline that Keras builds the model for."""
        _, y, sample_weight = given = keras.utils.unpack_x_y_sample_weight(batch)
        leaves = keras.tree.flatten((y, sample_weight))
        # Of a batch that lies in several processes this one cannot see all.
        if y is not None and all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves):
            training = not is_during(self, "evaluation")
            self._check_labels(*given, training=training, argument="y of the first batch")

    def call(self, inputs: Nested, training: bool | None = None) -> Nested:
        """Returns the student's predictions."""
        if in_symbolic_scope():
            build_layers(self.augmentation, inputs)
        outputs = self._pair.student_outputs(inputs, training)
        # Within a step Keras hands this on to `compute_loss` and `compute_metrics`, which need
        # the logits: predictions can be had from them, but not the other way round.
        return outputs if is_during(self, "step") else self._pair.view.predictions(outputs)

    def changed_batch(self, batch: Any) -> Any:
        """Augments the inputs of a batch for a training step."""
        if self.augmentation is None:
            return batch
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        return augmented(self.augmentation, x), y, sample_weight

    def train_step(self, *args: Any) -> Any:
        """Runs one training step; called by Keras, with the state first on JAX."""
        with self._within_step():
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        """Runs one evaluation step; called by Keras, with the state first on JAX."""
        # Under `tf.distribute` a step runs in a thread of its own.
        with self._within_step(), during(self, "evaluation"):
            return super().test_step(*args)

    def compute_loss(
        self,
        x: Nested = None,
        y: Nested = None,
        y_pred: Any = None,
        sample_weight: Nested = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the objective of one batch; called by Keras within a step."""
        if not isinstance(y_pred, Outputs):
            if in_symbolic_scope():
                return self._build_loss(x, y, y_pred, sample_weight)
            y_pred = self._pair.view.outputs_of_logits(y_pred)
        batch_size = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        regularization = additional_losses(self)
        student_loss = None
        if self._compile_loss is not None:
            student_loss = self._student_loss(x, y, y_pred, sample_weight, training)
            if regularization is not None:
                student_loss -= regularization
            track(self._compiled.student_loss_tracker, student_loss, batch_size)
        if not (training or self.evaluate_teacher):
            # As the student's own evaluation: labels and regularisers.
            return student_loss if regularization is None else student_loss + regularization
        self.take_lent()
        lesson = self._pair.lesson(x, y, y_pred, sample_weight, training)
        for metric in self._lesson_metrics:
            metric.update_lesson(lesson)
        return self._compiled(student_loss, lesson, regularization, batch_size, self._ignored)

    def lesson(self, x: Nested, y: Nested = None, sample_weight: Nested = None) -> Lesson:
        """Returns what student and teacher say of a batch, both at rest, outside any step.

        Args:
            x: Inputs, as `fit` takes them.
            y: Their labels, or None.
            sample_weight: Their weights, or None.

        Returns:
            The record that losses and metrics read.
        """
        student = self._pair.student_outputs(x, training=False)
        return self._pair.lesson(x, y, student, sample_weight)

    def compute_metrics(
        self, x: Nested, y: Nested, y_pred: Any, sample_weight: Nested = None
    ) -> dict[str, Tensor]:
        """Updates the metrics with what the student predicts; called by Keras."""
        if isinstance(y_pred, Outputs):
            y_pred = self._pair.view.predictions(y_pred)
        y_pred = self._pair.view.scored(y_pred, y)
        if self._compile_metrics is not None:
            check_labels_for_metrics(y)
        y = self._pair.view.labels(y)
        logs: dict[str, Tensor] = super().compute_metrics(x, y, y_pred, sample_weight)
        return logs

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Trains the student; arguments and return value are those of `keras.Model.fit`."""
        hint_if_plain_checkpoint(callbacks)
        # A layer may have been unfrozen since `compile`.
        self._pair.check_variables()
        self._check_labels(x, y, kwargs.get("sample_weight"), training=True)
        if isinstance(validation_data, list | tuple):
            self._check_labels(*validation_data, argument="y of validation_data")
        return super().fit(
            x,
            y,
            batch_size,
            epochs,
            verbose,
            callbacks,
            validation_split,
            validation_data,
            *args,
            **kwargs,
        )

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Trains on one batch; arguments and return value are those of `keras.Model`."""
        self._check_labels(x, y, sample_weight, training=True)
        return super().train_on_batch(x, y, sample_weight, *args, **kwargs)

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, return_dict: bool = False, **kwargs: Any
    ) -> Any:
        """Evaluates the student; arguments and return value are those of `keras.Model.evaluate`.

        Without `return_dict` and without the teacher there are as many values as the student's own
        `evaluate` gives.
        """
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has looked at its own.
            self._check_labels(x, y, kwargs.get("sample_weight"))
        with during(self, "evaluation"):
            logs = super().evaluate(x, y, *args, return_dict=True, **kwargs)
        if return_dict:
            return logs
        if not self.evaluate_teacher:
            # It is the loss but for regularisers.
            logs.pop("student_loss", None)
        return self._flatten_metrics_in_order(logs)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Evaluates one batch; arguments and return value are those of `keras.Model`."""
        self._check_labels(x, y, sample_weight)
        with during(self, "evaluation"):
            return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that are reported; an evaluation without the teacher has no `kd_loss`."""
        metrics: list[keras.metrics.Metric] = super().metrics
        objective = self._objective
        if objective is None:
            return metrics
        if self._compile_loss is not None:
            metrics = [*metrics, objective.student_loss_tracker]
        if is_during(self, "evaluation") and not self.evaluate_teacher:
            return metrics
        return [
            *metrics,
            objective.kd_loss_tracker,
            *objective.part_trackers,
            *self._lesson_metrics,
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        """State of student and objective, random seeds included, without the teacher's."""
        return [*super().variables, *self._objective_variables]

    @property
    def weights(self) -> list[keras.Variable]:
        """As `variables`, without random seeds."""
        return [*super().weights, *self._objective_variables]

    @property
    def lent_variables(self) -> Sequence[keras.Variable]:
        """The teacher's, which JAX's compiled step gets as arguments.

        They would be constants baked into it otherwise, copied at every compilation.
        """
        return self._pair.teacher.variables

    @property
    def settings(self) -> Sequence[keras.Variable]:
        """Weights of losses, temperatures and the like, which callbacks may `assign`."""
        return [one for one in self._objective_variables if not one.trainable]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears all gradients; called by Keras, on torch only."""
        super().zero_grad(set_to_none)
        # torch does not know the objective's variables, which Keras does not track.
        for variable in self._objective_variables:
            variable.value.grad = None

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves student, objective and optimizer. The teacher has a file of its own."""
        with during(self, "weights file"):
            super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads what `save_weights` saved, and says so where its weights and temperatures win."""
        before = {} if self._objective is None else self._objective.settings
        with during(self, "weights file"):
            super().load_weights(*args, **kwargs)
        after = {} if self._objective is None else self._objective.settings
        changed = [
            f"{name}: {after[name]:g} instead of {value:g}"
            for name, value in before.items()
            if not math.isclose(value, after[name], rel_tol=1e-6)
        ]
        if changed:
            warnings.warn(
                f"The file's values win over those given to `compile`: {'; '.join(changed)}. That "
                "is right if a schedule has changed them; else assign yours after loading.",
                stacklevel=2,
            )

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves student, teacher, objective and optimizer into a `.keras` file."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "A distiller cannot be saved in the old HDF5 format, which holds no teacher. "
                f"Received: {str(filepath)!r}. Save it as '.keras', or the student alone: "
                "distiller.student.save(...)."
            )
        super().save(filepath, *args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Exports the student, whose predictions are the distiller's."""
        self.student.export(*args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Writes the objective's variables and random seeds; called by Keras."""
        if self._objective is not None:
            for name, variable in self._objective.saved_variables.items():
                store[name] = variable
        # Keras saves no seeds: a run with dropout would go on with other random numbers.
        for name, seed in self._seeds.items():
            store[name] = seed

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote; called by Keras."""
        if self._objective is not None:
            names = [name for name in list(store.keys()) if not name.startswith(_SEED_PREFIXES)]
            self._objective.load_variables({name: store[name] for name in names})
        for name, seed in self._seeds.items():
            # A run may be given an augmentation when it goes on.
            if name in store or not name.startswith("augmentation_"):
                seed.assign(store[name])

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher_from_logits": self.teacher_from_logits,
            "student_from_logits": self.student_from_logits,
            "teacher_inputs": keras.saving.serialize_keras_object(self.teacher_inputs),
            "augmentation": keras.saving.serialize_keras_object(self.augmentation),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """Builds the model that `get_config` described."""
        parts = {
            name: keras.saving.deserialize_keras_object(
                config.get(name), custom_objects=custom_objects
            )
            for name in ("teacher", "student", "teacher_inputs", "augmentation")
        }
        return cls(**{**config, **parts})

    def get_compile_config(self) -> Config:
        """Returns what `compile` was called with, with the present weights."""
        config: Config = super().get_compile_config()
        if config:
            config |= self._compiled.get_compile_config()
            config["loss"] = "auto" if self._loss_on_logits else config["loss"]
            config["evaluate_teacher"] = self.evaluate_teacher
            config["distillation_metrics"] = [
                keras.saving.serialize_keras_object(metric) for metric in self._lesson_metrics
            ]
        return config

    def compile_from_config(self, config: Config) -> None:
        """Compiles as `get_compile_config` described, ready to go on training."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            # Slots must exist before the file's values can be put into them.
            self.optimizer.build(self.trainable_variables)

    @property
    def _compiled(self) -> Objective:
        if self._objective is None:
            raise ValueError(
                "The distiller has no weights of losses before it is compiled. Call "
                "compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2)) first."
            )
        return self._objective

    @property
    def _seeds(self) -> dict[str, keras.Variable]:
        """Random states by their names in files, to which Keras writes none."""
        seeds = {f"seed_{index}": one for index, one in enumerate(self._pair.student_seeds)}
        for index, one in enumerate(seeds_of(self.augmentation)):
            seeds[f"augmentation_seed_{index}"] = one
        return seeds

    @contextlib.contextmanager
    def _within_step(self) -> Iterator[None]:
        """Marks a step, in which the objective's variables are looked for once."""
        token = _OF_STEP.set((self._objective, self._objective_variables))
        try:
            with during(self, "step"):
                yield
        finally:
            _OF_STEP.reset(token)

    @property
    def _objective_variables(self) -> Sequence[keras.Variable]:
        if self._objective is None:
            return ()
        objective, variables = _OF_STEP.get()
        return variables if objective is self._objective else self._objective.variables

    @property
    def _ignored(self) -> Any:
        """The class id that the supervised loss leaves out, by output where losses are."""
        if isinstance(self.loss, dict | list | tuple):
            return {
                name: getattr(self._loss_of(name), "ignore_class", None)
                for name in self.output_names
            }
        return getattr(self.loss, "ignore_class", None)

    def _loss_of(self, output: str) -> Any:
        """The supervised loss of an output, as it was given."""
        if isinstance(self.loss, list | tuple):
            return dict(zip(self.output_names, self.loss, strict=False)).get(output)
        return pick(self.loss, output)

    @contextlib.contextmanager
    def _prepared(self, objective: Objective) -> Iterator[View | None]:
        """Lets teacher and student show what the losses need, and the losses make their layers.

        If the block raises, they show and have again what they did before.

        Args:
            objective: The one that is to be minimised.

        Yields:
            The student's view; None while it waits for its shapes.
        """
        pair = self._pair
        if not pair.is_viewed:
            yield None
            return
        pair.check_variables()
        objective.check_outputs(pair.view.output_names, pair.teacher.output_names)
        with objective.unchanged_on_failure():
            try:
                pair.prepare(objective.needs)
                objective.build(pair.view.shapes, pair.teacher.shapes)
                yield pair.view
            except BaseException:
                pair.prepare(Needs() if self._objective is None else self._objective.needs)
                raise

    def _student_loss(
        self, x: Nested, y: Nested, outputs: Outputs, sample_weight: Nested, training: bool
    ) -> Tensor:
        """The supervised loss as Keras computes it, regularisers included."""
        check_labels_given(y)
        view = self._pair.view
        predictions = (
            view.structured(outputs.logits)
            if self._loss_on_logits
            else view.scored(view.predictions(outputs), y)
        )
        # On torch, Keras multiplies a mask into the weights that it is given, in place.
        weights = keras.tree.map_structure(
            lambda weight: None if weight is None else ops.copy(weight), sample_weight
        )
        return super().compute_loss(x, view.labels(y), predictions, weights, training=training)

    def _build_loss(self, x: Nested, y: Nested, y_pred: Nested, sample_weight: Nested) -> Tensor:
        """Lets Keras's losses make their state from shapes alone, outside any step."""
        if self._compile_loss is None:
            return ops.zeros(())
        check_labels_given(y)
        view = self._pair.view
        y_pred = view.as_logits(y_pred) if self._loss_on_logits else view.scored(y_pred, y)
        return super().compute_loss(x, view.labels(y), y_pred, sample_weight, training=False)

    def _check_labels(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        training: bool = False,
        argument: str = "y",
    ) -> None:
        """Finds what can be no label before the first step, where labels lie in memory."""
        objective = self._objective
        if objective is None or not self._pair.is_viewed:
            return
        if y is None:
            leaves = keras.tree.flatten(x)
            if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
                if self._compile_loss is not None:
                    check_labels_given(y)
                if self._compile_metrics is not None:
                    check_labels_for_metrics(y)
            return
        view = self._pair.view
        names = view.output_names
        if isinstance(y, list | tuple) and len(names) > 1 and len(y) != len(names):
            return  # Keras counts them.
        kd_losses = objective.losses_by_output if training or self.evaluate_teacher else {}
        rules = {
            name: label_rule(self._loss_of(name), kd_losses.get(name, []) + kd_losses.get(None, []))
            for name in names
        }
        labels, shapes = view.by_name(y), view.shapes.logits
        if len(names) == 1:
            labels, shapes = {names[0]: labels}, {names[0]: shapes}
        elif not isinstance(labels, dict):
            labels = dict.fromkeys(names, labels)
        check_labels_in_memory(labels, rules, shapes or {}, sample_weight, argument)
        for name, ids in self._pair.kept_classes(x).items():
            logits = (shapes or {}).get(name)
            if logits is not None and logits[-1] is not None:
                losses = kd_losses.get(name, []) + kd_losses.get(None, [])
                check_labels_are_kept(labels.get(name), ids, logits[-1], losses, argument)
