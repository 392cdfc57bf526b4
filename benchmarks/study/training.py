"""Students that are compiled once and trained again and again, each from new weights."""

import time
from typing import Any

import keras
import numpy as np

from keras_ats import Distiller
from keras_ats.recipes.trials import Trial
from study.methods import METHODS
from study.sentences import Split, Task, network


def optimizer(learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Adam, whose rate falls to 0 by a cosine."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps))


def say_again(classes: int) -> keras.Model:
    """A teacher that has spoken: what it said comes with the data, as the input `said`."""
    said = keras.Input((classes,), name="said")
    return keras.Model(said, keras.layers.Activation("linear")(said))


def say_on(hidden: int, classes: int) -> keras.Model:
    """A teacher whose last hidden layer comes with the data, for losses that look at it."""
    said = keras.Input((hidden,), name="said")
    features = keras.layers.Activation("linear", name="hidden")(said)
    return keras.Model(said, keras.layers.Dense(classes, name="logits")(features))


class School:
    """A distiller for one data set, student, method and number of samples.

    Students of all teachers, settings and seeds share its compiled step.

    Args:
        task: The data set.
        method: Name of the method.
        widths: Of the student's hidden layers.
        teacher: From `say_again` or `say_on`.
        samples: How many the student is trained on.
        epochs: Of a training.
        config: Of the study.
    """

    def __init__(
        self,
        task: Task,
        method: str,
        widths: list[int],
        teacher: keras.Model,
        samples: int,
        epochs: int,
        config: dict[str, Any],
    ) -> None:
        self.task, self.teacher, self.method = task, teacher, METHODS[method]
        self.loss = self.method.build()
        size = config["batch_size"]
        steps = -(-samples // size)
        self.distiller = Distiller(
            teacher,
            network(widths, task.classes, config),
            teacher_from_logits=True,
            teacher_inputs="said",
        )
        self.distiller.compile(
            optimizer(config["learning_rate"], steps * epochs),
            kd_loss=self.loss,
            kd_weight=self.method.kd_weight,
            student_weight=self.method.student_weight,
            metrics=["accuracy"],
            steps_per_execution=steps,
        )
        nothing = np.zeros((samples, *teacher.input_shape[1:]), "float32")
        train = ({"ngrams": task.train[0][:samples], "said": nothing}, task.train[1][:samples])
        fit = {"epochs": epochs, "batch_size": size, "verbose": 0}
        build = lambda: network(widths, task.classes, config)  # noqa: E731
        self.trial = Trial(self.distiller, build, train, None, fit, "accuracy")
        self._held_out = np.concatenate([task.validation[0], task.test[0]])

    def run(
        self, setting: dict[str, Any], train: Split, said: np.ndarray, seed: int, watch: bool
    ) -> dict[str, Any]:
        """Trains a student; returns its accuracies, and seconds.

        Args:
            setting: What the method is given.
            train: The sentences and labels.
            said: What the teacher said of these.
            seed: Of weights and order.
            watch: Whether to record the accuracy on validation data after each epoch.
        """
        started, worked = time.monotonic(), time.process_time()
        given = self.method.variables(self.loss, setting)
        weight = setting.get("kd_weight", self.method.kd_weight)
        self.trial.settings = {id(variable): value for variable, value in given}
        self.trial.settings[id(self.distiller.kd_weight)] = weight
        self.trial.train = ({"ngrams": train[0], "said": said}, train[1])
        if watch:
            x, y = self.task.validation
            silent = np.zeros((len(y), *said.shape[1:]), "float32")
            self.trial.options["validation_data"] = ({"ngrams": x, "said": silent}, y)
            self.trial.options["validation_batch_size"] = len(y)
        history = self.trial.fit(seed).history
        for name in ("validation_data", "validation_batch_size"):
            self.trial.options.pop(name, None)
        found = self._accuracies()
        found["train"] = round(float(history["accuracy"][-1]), 5)
        if watch:
            found["curve"] = [round(float(value), 5) for value in history["val_accuracy"]]
        found["seconds"] = round(time.monotonic() - started, 2)
        found["cpu_seconds"] = round(time.process_time() - worked, 2)
        return found

    def said_of(self, sentences: np.ndarray) -> np.ndarray:
        """The logits of the student that was trained last."""
        return predict(self.distiller.student, sentences)

    def _accuracies(self) -> dict[str, float]:
        logits = predict(self.distiller.student, self._held_out)
        size = len(self.task.validation[1])
        return {
            "validation": accuracy(logits[:size], self.task.validation[1]),
            "test": accuracy(logits[size:], self.task.test[1]),
        }


def predict(model: keras.Model, sentences: np.ndarray) -> np.ndarray:
    """All logits, in one batch."""
    return model.predict(sentences, batch_size=len(sentences), verbose=0)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of labels that have the largest logit."""
    return round(float(np.mean(logits.argmax(axis=-1) == labels)), 5)
