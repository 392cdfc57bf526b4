"""How old, and who? Two heads in a list, with losses by name."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6)).astype("float32")
age, gender = rng.uniform(18, 80, (64, 1)), rng.integers(2, size=64)


def build(units):
    inputs = keras.Input((6,))
    hidden = layers.Dense(units, "relu")(inputs)
    heads = [layers.Dense(1, name="age"), layers.Dense(1, "sigmoid", name="gender")]
    return keras.Model(inputs, [head(hidden) for head in heads])


model = build(4)
loss = {"age": "mae", "gender": "binary_crossentropy"}
metrics = {"gender": ["accuracy"]}
model.compile("adam", loss, metrics=metrics)
model.fit(x, {"age": age, "gender": gender}, validation_split=0.25, verbose=0)
model.save("model.keras")
