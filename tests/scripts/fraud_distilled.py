"""Is it fraud? One sigmoid unit."""

import keras
import numpy as np
from keras import layers

from keras_ats import Distiller, losses

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6)).astype("float32")
y = (x[:, 0] > 0.5).astype("int32")


def build(units):
    hidden, end = layers.Dense(units, "relu"), layers.Dense(1, "sigmoid")
    return keras.Sequential([keras.Input((6,)), hidden, end])


model = build(4)
kd_loss = losses.BernoulliKD(4, 2)
distiller = Distiller(keras.saving.load_model("teacher.keras"), model)
distiller.compile("adam", "binary_crossentropy", kd_loss=kd_loss, metrics=["accuracy"])
distiller.fit(x, y, class_weight={0: 1.0, 1: 5.0}, validation_split=0.25, verbose=0)
model.save("model.keras")
