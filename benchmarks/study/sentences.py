"""Sentences as bags of n-grams, and the networks that read them."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_ats import data

Split = tuple[np.ndarray, np.ndarray]


class Task(NamedTuple):
    """A data set, split, as ids of n-grams `(n, longest)`, 0 for none, and labels `(n,)`.

    `texts` are the splits themselves.
    """

    train: Split
    validation: Split
    test: Split
    texts: data.Splits[data.Texts]
    classes: int


def load(name: str, data_dir: Any, config: dict[str, Any]) -> Task:
    """Reads a data set; the vocabulary is that of the training sentences."""
    fraction = config["data"][name].get("validation_fraction", 0.0)
    splits = data.load(name, data_dir, validation_fraction=fraction, verbose=False)
    places = vocabulary(splits.train.sentences, ngrams, config["ngrams"])
    return Task(
        *((ids(split.sentences, places, config["longest"]), split.labels) for split in splits),
        texts=splits,
        classes=len(splits.train.class_names),
    )


def places_of_few(task: Task, each: int, seed: int) -> np.ndarray:
    """The places of a subset's sentences among all that are trained on, `each` of each class."""
    texts = task.texts.train
    chosen = texts.subset(each * task.classes, seed)
    return np.flatnonzero(np.isin(texts.ids, chosen.ids))


def vocabulary(
    sentences: Any, tokens: Callable[[str], list[str]], size: int, first: int = 1
) -> dict[str, int]:
    """Ids, from `first` on, of the tokens that are in most sentences."""
    counts = Counter(token for text in sentences for token in set(tokens(text)))
    # The order of equally frequent ones must not depend on that of a set.
    ordered = sorted(counts, key=lambda token: (-counts[token], token))[:size]
    return {token: place for place, token in enumerate(ordered, start=first)}


def ngrams(text: str) -> list[str]:
    """Words, and pairs of neighbours."""
    words = text.lower().split()
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


def ids(sentences: Any, places: dict[str, int], longest: int) -> np.ndarray:
    """Ids of each sentence's known n-grams, each once, int32 `(n, longest)`, 0 behind them."""
    rows = np.zeros((len(sentences), longest), "int32")
    for row, text in zip(rows, sentences, strict=True):
        known = [places[gram] for gram in dict.fromkeys(ngrams(text)) if gram in places]
        row[: len(known)] = known[:longest]
    return rows


def network(widths: list[int], classes: int, config: dict[str, Any]) -> keras.Model:
    """A multi-layer perceptron on the bag of n-grams, with logits.

    The first layer is an embedding whose rows are added up: what a dense layer makes of a vector of
    zeros and ones, at a tenth of the cost.
    """
    ngram_ids = keras.Input((config["longest"],), dtype="int32", name="ngrams")
    rows = keras.layers.Embedding(
        config["ngrams"] + 1, widths[0], embeddings_initializer="glorot_uniform"
    )(ngram_ids)
    known = keras.ops.cast(ngram_ids > 0, "float32")[..., None]
    hidden = keras.layers.ReLU(name="hidden" if len(widths) == 1 else None)(
        keras.ops.sum(rows * known, axis=1)
    )
    for place, width in enumerate(widths[1:], start=2):
        last = place == len(widths)
        hidden = keras.layers.Dense(width, "relu", name="hidden" if last else None)(hidden)
    return keras.Model(ngram_ids, keras.layers.Dense(classes, name="logits")(hidden))
