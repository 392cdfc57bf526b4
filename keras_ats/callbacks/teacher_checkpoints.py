"""Teachers at every age, to pick one that was stopped early (ESKD)."""

from collections.abc import Callable
from pathlib import Path

import keras

from keras_ats.types import Config


class TeacherCheckpoints(keras.callbacks.Callback):
    """Keeps the teacher of every few epochs, because the last one is not always the best teacher.

    A teacher stopped early in its own training is less confident, and may teach a small student
    better. Give this to the teacher's own `fit`, then choose with `load` or `pick`.

    Args:
        directory: Folder for the files `epoch_001.keras`, ...; made if missing.
        every: Number of epochs between two files. Defaults to 1.

    Raises:
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
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: every={every!r}.")
        self.directory = Path(directory)
        self.every = every

    def on_epoch_end(self, epoch: int, logs: Config | None = None) -> None:
        """Saves the model; called by Keras, which counts epochs from 0."""
        if (epoch + 1) % self.every == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self._path(epoch + 1)
            # Renamed when whole: a run killed while it writes leaves no broken teacher behind.
            unfinished = path.with_name(f"unfinished_{path.name}")
            self.model.save(unfinished)
            unfinished.replace(path)

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
        """
        if not self.epochs:
            raise FileNotFoundError(f"No teachers in {self.directory}: train one first.")
        scores = {epoch: score(self.load(epoch)) for epoch in self.epochs}
        return self.load(max(scores, key=lambda epoch: scores[epoch]))

    def _path(self, epoch: int) -> Path:
        return self.directory / f"epoch_{epoch:03d}.keras"
