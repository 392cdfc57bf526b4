"""Images of half the resolution, and the networks that read them."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_ats
from keras_ats import Distiller, data
from keras_ats.teachers import CachedTeacher
from study.lines import Lines
from study.methods import METHODS
from study.plan import pair_of
from study.teaching import run_of, statistics_of
from study.training import accuracy

Run = dict[str, Any]


class Pupils:
    """Trains the teachers and students of one seed.

    Args:
        splits: Training images, validation images, test images.
        seed: Of weights, orders and views.
        config: Of the study.
        lines: Where teachers are written down.
        folder: Where unfinished networks and caches of teachers are.
    """

    def __init__(
        self,
        splits: data.Splits[data.Samples],
        seed: int,
        config: dict[str, Any],
        lines: Lines,
        folder: Path,
    ) -> None:
        self.splits, self.seed, self.config, self.lines = splits, seed, config, lines
        self.folder = folder / f"seed-{seed}"
        (self.name,) = config["data"]
        self.steps = splits.train.steps(config["batch_size"], drop_remainder=True)
        self._batches = {"shuffle": True, "drop_remainder": True}

    def train(self, run: Run) -> dict[str, Any]:
        """Trains one student."""
        keras.backend.clear_session()
        method = METHODS[run["method"]]
        # Labels alone and smoothed ones have no teacher; any will do, with nothing to say.
        teacher = self.teacher(run["teacher"] or next(iter(self.config["teachers"]["networks"])))
        keras.utils.set_random_seed(self.seed)
        loss = method.build()
        distiller = Distiller(teacher, self._network(self.config["student"]))
        epochs = self.config["epochs"] * run["setting"].get("budget", 1)
        setting = run["setting"]
        if run["method"] == "suggested":
            setting = {
                "pair": pair_of(
                    "suggested", self.name, run["teacher"], self.seed, self.config, self.lines
                )
            }
        distiller.compile(
            self._optimizer(epochs),
            kd_loss=loss,
            kd_weight=setting.get("kd_weight", method.kd_weight),
            student_weight=method.student_weight,
            metrics=["accuracy"],
        )
        for variable, value in method.variables(loss, setting):
            variable.assign(value)
        batches = teacher.batches(self.config["batch_size"], **self._batches)
        found = self._fit(distiller, batches, epochs, watch=run["method"] == "labels alone")
        found |= self._accuracies(distiller.student)
        return found | ({"pair": setting["pair"]} if run["method"] == "suggested" else {})

    def teacher(self, name: str) -> CachedTeacher:
        """A teacher's cache; where there is none, the teacher is trained first."""
        run, path = run_of(self.name, name, self.seed), self.folder / f"{name.replace('/', '-')}"
        if run in self.lines and path.exists():
            return CachedTeacher(path, self.splits.train)
        keras.utils.set_random_seed(1000 + self.seed)
        model = self._network(self.config["teachers"]["networks"][name])
        model.compile(
            self._optimizer(self.config["epochs"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        backup = keras_ats.callbacks.Backup(self.folder / f"{path.name}-unfinished")
        batches = self.splits.train.batches(
            self.config["batch_size"],
            augment=True,
            seed=self.seed,
            views=self.config["views"],
            first_epoch=backup.epoch,
            **self._batches,
        )
        found = self._fit(model, batches, self.config["epochs"], callbacks=[backup])
        found |= self._accuracies(model)
        cache = keras_ats.cache_teacher(
            model,
            self.splits.train,
            path,
            views=self.config["views"],
            augment=True,
            seed=self.seed,
            verbose=0,
        )
        if run not in self.lines:
            shown = self.splits.train, self.splits.validation
            logits = np.concatenate([self._logits(model, samples) for samples in shown])
            statistics = statistics_of(
                logits, tuple(samples.labels for samples in shown), self.config
            )
            parameters = model.count_params()
            self.lines.add(run, **found, parameters=parameters, **statistics)
        return cache

    def _network(self, size: list[Any]) -> keras.Model:
        depth, widths = size
        height, width, channels = self.splits.train.features.shape[1:]
        pooled = self.config["pooled"]
        network = keras_ats.models.resnet(
            depth,
            len(self.splits.train.class_names),
            widths=widths,
            input_shape=(height // pooled, width // pooled, channels),
            weight_decay=self.config["weight_decay"],
        )
        images = keras.Input((height, width, channels))
        return keras.Model(images, network(keras.layers.AveragePooling2D(pooled)(images)))

    def _optimizer(self, epochs: int) -> keras.optimizers.Optimizer:
        """SGD with Nesterov's momentum, whose rate falls to 0 by a cosine."""
        rate = keras.optimizers.schedules.CosineDecay(
            self.config["learning_rate"], self.steps * epochs
        )
        return keras.optimizers.SGD(rate, 0.9, nesterov=True)

    def _fit(
        self, model: keras.Model, batches: Any, epochs: int, *, watch: bool = False, **others: Any
    ) -> dict[str, Any]:
        started, worked = time.monotonic(), time.process_time()
        held_out = self.splits.validation.batches(500) if watch else None
        history = model.fit(
            batches,
            steps_per_epoch=self.steps,
            shuffle=False,  # The batches are.
            epochs=epochs,
            validation_data=held_out,
            verbose=0,
            **others,
        ).history
        found: dict[str, Any] = {"train": round(float(history["accuracy"][-1]), 5)}
        if watch:
            found["curve"] = [round(float(value), 5) for value in history["val_accuracy"]]
        found["seconds"] = round(time.monotonic() - started, 2)
        found["cpu_seconds"] = round(time.process_time() - worked, 2)
        return found

    def _accuracies(self, model: keras.Model) -> dict[str, float]:
        shown = {"validation": self.splits.validation, "test": self.splits.test}
        return {
            name: accuracy(self._logits(model, samples), samples.labels)
            for name, samples in shown.items()
        }

    def _logits(self, model: keras.Model, samples: data.Samples) -> np.ndarray:
        return model.predict(samples.batches(500), verbose=0)
