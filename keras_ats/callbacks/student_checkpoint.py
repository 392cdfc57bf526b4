"""The student's own file, kept while training."""

from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_ats import checks, files
from keras_ats.callbacks._save_freq import as_save_freq
from keras_ats.types import Config


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """Saves the student by itself: `keras.callbacks.ModelCheckpoint`, but for what is deployed.

    Given to a distiller's `fit`, Keras's own saves teacher, student, loss and optimizer in a file
    that only loads with keras_ats. This one saves `distiller.student`: a plain Keras model, of a
    plain model's size. A model that is no distiller is saved itself. When to save, and under which
    name, is decided as Keras does it, but that a NaN is never the best value. A process that is
    killed while it saves leaves the file that was there before.

    Args:
        filepath: Where to save, ending in `.keras`, or `.weights.h5` with `save_weights_only`.
            May hold `{epoch}` and names of the logs, as `"{epoch:02d}-{val_loss:.2f}.keras"`.
        monitor: Name of the log that `save_best_only` looks at. Defaults to `"val_loss"`.
        verbose: 1 prints a line when a file is written. Defaults to 0.
        save_best_only: Whether to save only what is better than all before. Defaults to False.
        save_weights_only: Whether to save the student's weights without its form. Defaults to
            False.
        mode: `"min"`, `"max"`, or `"auto"` (default), which reads it off the monitored name.
        save_freq: `"epoch"` (default), or after how many batches to save.
        initial_value_threshold: The value to be better than at first; None (default) takes any.

    Raises:
        TypeError: If `filepath` is no path.
        ValueError: If its ending does not fit, or it is not on this machine.
        OSError: In `fit`: if it cannot be written, as on a full disk.

    Example:

    ```python
    import tempfile

    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax")])
    x, y = np.random.rand(32, 8), np.random.randint(0, 3, 32)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
    best = keras_ats.callbacks.StudentCheckpoint(
        tempfile.mkdtemp() + "/best.keras", save_best_only=True
    )
    distiller.fit(x, y, validation_data=(x, y), callbacks=[best], verbose=0)
    student = keras.saving.load_model(best.filepath)
    ```
    """

    saves_student_alone = True

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(
            str(files.local_path(filepath, "filepath")),
            monitor=checks.as_string(monitor, "monitor", "the name of a log"),
            verbose=checks.as_integer(int(verbose) if verbose is True else verbose, "verbose", 0),
            save_best_only=checks.as_boolean(save_best_only, "save_best_only"),
            save_weights_only=checks.as_boolean(save_weights_only, "save_weights_only"),
            mode=checks.one_of(mode, "mode", ("auto", "min", "max")),
            save_freq=as_save_freq(save_freq),
            initial_value_threshold=_as_threshold(initial_value_threshold),
        )

    def _save_model(self, epoch: int, batch: int | None, logs: Config | None) -> None:
        """Saves the student, if it is time to; called by Keras."""
        path = Path(self._get_file_path(epoch, batch, logs))
        if not self._should_save_model(epoch, batch, logs, path):
            return
        model = self.model
        student: Any = getattr(model, "student", model)
        with files.whole_file(path) as unfinished:
            if self.save_weights_only:
                student.save_weights(unfinished, overwrite=True)
            else:
                student.save(unfinished, overwrite=True)

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        """Whether a value is the best one so far; called by Keras."""
        # To Keras the first value is the best whatever it is, and nothing is better than a NaN.
        improved = super()._is_improvement(monitor_value, reference_value)
        return bool(improved) and not np.isnan(monitor_value)


def _as_threshold(value: Any) -> float | None:
    if value is None:
        return None
    threshold = checks.as_number(value, "initial_value_threshold", "a number to be better than")
    if np.isnan(threshold):
        raise ValueError(
            "`initial_value_threshold` must be a number to be better than. Received: "
            f"initial_value_threshold={value!r}, which nothing is."
        )
    return threshold
