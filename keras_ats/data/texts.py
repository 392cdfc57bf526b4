"""Labelled sentences in memory: subsets and splits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ats.checks import as_string
from keras_ats.data import arrays, sampling
from keras_ats.data.arrays import Array


@dataclass(frozen=True, eq=False, repr=False)
class Texts:
    """Labelled sentences in memory, which know who they are.

    What `Samples` are for images: one array of sentences, to be turned into numbers by whatever the
    model wants, be it `keras.layers.TextVectorization` or a bag of n-grams. `load` makes these of
    published data sets.

    Args:
        sentences: Sequence of n strings, kept as an array of objects, `(n,)`.
        labels: `(n,)`, class ids from 0.
        ids: `(n,)`, place in the published split. A subset keeps the ids of its sentences. Defaults
            to 0, 1, 2 and so on.
        class_names: Name of each class. Defaults to "0", "1" and so on, up to the highest label.
        name: Data set and split that the ids count in. Defaults to "texts".

    Raises:
        TypeError: If a sentence or a name is no string.
        ValueError: If the parts do not fit together.

    Example:

    ```python
    texts = keras_ats.data.Texts(
        ["hello", "good day", "stop", "wait"], [0, 0, 1, 1], class_names=["greeting", "halt"]
    )
    train, validation = texts.split(0.5)
    ```
    """

    sentences: Array
    labels: Array
    ids: Array | None = None
    class_names: Sequence[str] | None = None
    name: str = "texts"

    def __post_init__(self) -> None:
        as_string(self.name, "name", "such as 'clinc150/train'")
        sentences = _as_sentences(self.sentences)
        labels = arrays.checked_labels(self.labels, len(sentences))
        # Where a frozen dataclass keeps its fields.
        vars(self).update(
            sentences=sentences,
            labels=labels,
            ids=arrays.checked_ids(self.ids, len(sentences)),
            class_names=arrays.checked_class_names(self.class_names, labels),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Texts('{self.name}': {len(self)} sentences, {len(self._names)} classes)"

    def subset(self, size: int, seed: int = 0) -> "Texts":
        """Draws a class-balanced subset, without replacement.

        With the same seed a smaller subset lies within a larger one.

        Args:
            size: Number of sentences. Where the classes cannot all have the same number, the first
                ones have one more.
            seed: At least 0. Defaults to 0.

        Returns:
            The subset in the same order, with ids of the whole.

        Raises:
            TypeError: If a number is not an integer.
            ValueError: If a class has too few sentences.
        """
        return self._where(sampling.balanced(self.labels, self._names, size, seed))

    def split(self, fraction: float, seed: int = 0) -> tuple["Texts", "Texts"]:
        """Carves off a part that has the classes in the same proportions.

        Args:
            fraction: Of each class, above 0 and below 1. The part has `fraction * len(self)`
                sentences, rounded; each class is within one sentence of its share.
            seed: At least 0. Defaults to 0.

        Returns:
            The rest, and the part.

        Raises:
            TypeError: If `fraction` is not a number, or `seed` not an integer.
            ValueError: If the part would be empty, or would take all sentences of a class.
        """
        chosen = sampling.proportional(self.labels, self._names, fraction, seed)
        return self._where(~chosen), self._where(chosen)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.class_names or ())

    def _where(self, chosen: Array) -> "Texts":
        ids = np.arange(len(self)) if self.ids is None else self.ids
        return replace(
            self, sentences=self.sentences[chosen], labels=self.labels[chosen], ids=ids[chosen]
        )


def _as_sentences(sentences: Any) -> Array:
    is_list = isinstance(sentences, Sequence | np.ndarray) and not isinstance(sentences, str)
    if not is_list or len(sentences) == 0:
        raise ValueError(
            "`sentences` must be a sequence of strings, at least one. Received: "
            f"sentences={sentences!r} of type {type(sentences).__name__}."
        )
    strange = [one for one in sentences if not isinstance(one, str)]
    if strange:
        raise TypeError(
            f"`sentences` must be strings. Received: {strange[0]!r} of type "
            f"{type(strange[0]).__name__}. Decode bytes: text.decode('utf-8')."
        )
    return np.array([str(one) for one in sentences], dtype=object)
