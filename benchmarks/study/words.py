"""Sentences as words in their order, and the small transformer that reads them."""

from typing import Any

import keras
import numpy as np

from study.sentences import Task, vocabulary

UNKNOWN = 1


def read(task: Task, plan: dict[str, Any], config: dict[str, Any]) -> Task:
    """The same sentences as ids of words, `UNKNOWN` for rare ones, 0 behind them."""
    places = vocabulary(task.texts.train.sentences, words, plan["words"], first=UNKNOWN + 1)
    return task._replace(
        **{
            name: (ids(split.sentences, places, config["longest"]), split.labels)
            for name, split in task.texts._asdict().items()
        }
    )


def words(text: str) -> list[str]:
    """Words, in their order."""
    return text.lower().split()


def ids(sentences: Any, places: dict[str, int], longest: int) -> np.ndarray:
    """Ids of the first `longest` words of each sentence, int32 `(n, longest)`."""
    rows = np.zeros((len(sentences), longest), "int32")
    for row, text in zip(rows, sentences, strict=True):
        known = [places.get(word, UNKNOWN) for word in words(text)[:longest]]
        row[: len(known)] = known
    return rows


def transformer(plan: dict[str, Any], classes: int, config: dict[str, Any]) -> keras.Model:
    """Blocks of attention and a perceptron on the words and their places, averaged, with logits."""
    layers, ops, width = keras.layers, keras.ops, plan["width"]
    word_ids = keras.Input((config["longest"],), dtype="int32", name="words")
    known = word_ids > 0
    # Of a constant such as `arange` Keras would make no part of the graph, and train no places.
    places = ops.cumsum(ops.cast(known, "int32"), axis=1)
    hidden = layers.Embedding(plan["words"] + UNKNOWN + 1, width)(word_ids)
    hidden = hidden + layers.Embedding(config["longest"] + 1, width)(places)
    hidden = layers.Dropout(plan["dropout"])(hidden)
    for _ in range(plan["blocks"]):
        normal = layers.LayerNormalization()(hidden)
        attention = layers.MultiHeadAttention(plan["heads"], width // plan["heads"])
        seen = attention(normal, normal, attention_mask=known[:, None, :])
        hidden = hidden + layers.Dropout(plan["dropout"])(seen)
        normal = layers.LayerNormalization()(hidden)
        thought = layers.Dense(width)(layers.Dense(2 * width, "relu")(normal))
        hidden = hidden + layers.Dropout(plan["dropout"])(thought)
    average = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden), mask=known)
    return keras.Model(word_ids, layers.Dense(classes, name="logits")(average))
