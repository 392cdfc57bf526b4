"""Teachers at every age, to pick one that was stopped early (ESKD)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_ats import files
from keras_ats.checks import as_integer, as_number
from keras_ats.types import Config


class TeacherCheckpoints(keras.callbacks.Callback):
    """Keeps the teacher of every few epochs, because the last one is not always the best teacher.

    A teacher stopped early in its own training is less confident, and may teach a small student
    better. Give this to the teacher's own `fit`, then choose with `load` or `pick`.

    Args:
        directory: Folder for the files `epoch_001.keras`, ...; made if missing.
        every: Number of epochs between two files. Defaults to 1.

    Raises:
        TypeError: If `directory` is no path, or `every` no integer.
        ValueError: If `every` is below 1.

    Example:

    ```python
    import tempfile

    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    teacher.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    checkpoints = keras_ats.callbacks.TeacherCheckpoints(tempfile.mkdtemp())
    x, y = np.random.rand(16, 4), np.random.randint(0, 3, 16)
    teacher.fit(x, y, epochs=3, callbacks=[checkpoints], verbose=0)
    early = checkpoints.load(epoch=2)
    best = checkpoints.pick(lambda model: -model.evaluate(x, y, verbose=0))
    ```

    Reference: Cho, Hariharan, "On the Efficacy of Knowledge Distillation", ICCV 2019,
    arXiv 1910.01348.
    """

    def __init__(self, directory: str | Path, every: int = 1) -> None:
        super().__init__()
        self.directory = files.local_path(directory, "directory")
        self.every = as_integer(every, "every")

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        """Saves the model; called by Keras, which counts epochs from 0."""
        if (epoch + 1) % self.every == 0:
            with files.whole_file(self._path(epoch + 1)) as unfinished:
                self.model.save(unfinished)

    @property
    def epochs(self) -> list[int]:
        """Epochs that have a file, counted from 1, in order."""
        return sorted(int(path.stem.split("_")[1]) for path in self.directory.glob("epoch_*.keras"))

    def load(self, epoch: int) -> keras.Model:
        """Returns the teacher as it was after `epoch` epochs.

        Args:
            epoch: Number of an epoch, counted from 1.

        Returns:
            The model.

        Raises:
            FileNotFoundError: If that epoch has no file.
        """
        if epoch not in self.epochs:
            raise FileNotFoundError(
                f"No teacher of epoch {epoch} in {self.directory}. Epochs there: {self.epochs}."
            )
        return keras.saving.load_model(self._path(epoch))

    def pick(self, score: Callable[[keras.Model], float]) -> keras.Model:
        """Returns the teacher with the highest score, the earliest of equal ones.

        Args:
            score: Called with each teacher. For a fair choice let it look at a validation set, or
                at what a student learns from the teacher there; never at the test set.

        Returns:
            The model.

        Raises:
            FileNotFoundError: If there are no files.
            TypeError: If a score is not a number.
            ValueError: If a score is NaN.
        """
        if not self.epochs:
            raise FileNotFoundError(f"No teachers in {self.directory}: train one first.")
        scores = {epoch: self._score(score, epoch) for epoch in self.epochs}
        return self.load(max(scores, key=lambda epoch: scores[epoch]))

    def _score(self, score: Callable[[keras.Model], float], epoch: int) -> float:
        value: Any = score(self.load(epoch))
        if keras.ops.is_tensor(value):
            value = keras.ops.convert_to_numpy(value).item()
        number = as_number(value, "score(teacher)", "a number, the higher the better")
        if math.isnan(number):  # Neither higher nor lower than another: `max` would go by chance.
            raise ValueError(
                f"The teacher of epoch {epoch} cannot be compared. Received: a score of "
                f"{value!r}. If its training has diverged, delete {self._path(epoch)} and those "
                "after it; otherwise mend `score`."
            )
        return number

    def _path(self, epoch: int) -> Path:
        return self.directory / f"epoch_{epoch:03d}.keras"
