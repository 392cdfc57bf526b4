"""What is in the picture? Several things may be: one sigmoid unit for each."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6)).astype("float32")
y = (x[:, :4] > 0.3).astype("float32")


def build(units):
    inputs = keras.Input((6,))
    hidden = layers.Dense(units, "relu")(inputs)
    return keras.Model(inputs, layers.Dense(4, "sigmoid", name="tags")(hidden))


model = build(4)
model.compile("adam", "binary_crossentropy", metrics=["binary_accuracy"])
model.fit(x, y, validation_data=(x[:16], y[:16]), verbose=0)
model.save("model.keras")
