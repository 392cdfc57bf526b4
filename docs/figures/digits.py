"""Trains what the gallery shows, on scikit-learn's digits, and keeps what it said.

Run: KERAS_BACKEND=jax python docs/figures/digits.py

Four teachers of growing width, the students of each, and a map of temperatures. Everything is
seeded; it takes a few minutes and writes digits.npz and digits.json. From these gallery.py draws
the pictures, so that they can be drawn anew without training.
"""

import json
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD

FOLDER = Path(__file__).parent
WIDTHS = (16, 48, 128, 384)  # of the teachers' three hidden layers
STUDENTS = (8, 16)  # units of the students' one
SEEDS = range(5)
STEPS, BATCH = 150, 150
ONE_TEMPERATURE = 4.0


def network(*units):
    hidden = [keras.layers.Dense(each, activation="relu") for each in units]
    return keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])


def optimizer():
    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.2, STEPS), momentum=0.9)


def repeated(x, y):
    """As many samples as all steps take, so that a training is one epoch."""
    order = np.resize(np.arange(len(y)), STEPS * BATCH)
    np.random.default_rng(0).shuffle(order)
    return x[order], y[order]


def main():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")

    def deal(x, y, size):
        first, rest, first_y, rest_y = train_test_split(
            x, y, train_size=size, stratify=y, random_state=0
        )
        return (first, first_y), (rest, rest_y)

    train, left = deal(x, y, 1050)
    held_out, test = deal(*left, 150)
    lesson = deal(*train, 150)[0]  # what students learn from
    kept = {"labels": test[1].astype("uint8"), "images": np.round(16 * test[0]).astype("uint8")}
    results = {"parameters": {}, "accuracy": {}, "students": {}, "map": {}}
    for width in WIDTHS:
        keras.utils.set_random_seed(width)
        teacher = network(width, width, width)
        teacher.compile(optimizer(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        teacher.fit(*repeated(*train), batch_size=BATCH, shuffle=False, verbose=0)
        name = f"width {width}"
        logits = teacher.predict(test[0], verbose=0)
        kept[name] = logits.astype("float16")
        results["parameters"][name] = teacher.count_params()
        results["accuracy"][name] = float(np.mean(logits.argmax(-1) == test[1]))
        correct, wrong, _ = keras_ats.suggest_temperatures(teacher, held_out, verbose=False)
        methods = {
            "one temperature": AsymmetricTemperatureKD(ONE_TEMPERATURE, ONE_TEMPERATURE),
            "ATS": AsymmetricTemperatureKD(correct, wrong),
        }
        for units in STUDENTS:
            found = keras_ats.compare(
                teacher,
                lambda units=units: network(units),
                repeated(*lesson),
                test,
                methods,
                batch_size=BATCH,
                seeds=SEEDS,
                optimizer=optimizer,
                verbose=False,
            )
            results["students"].setdefault(f"{units} units", {})[name] = found.values
            print(name, units, f"suggested {correct:.2f}, {wrong:.2f}", found, sep="\n", flush=True)

    search = keras_ats.search_temperatures(
        teacher,
        lambda: network(STUDENTS[-1]),
        repeated(*lesson),
        test,
        correct_temperatures=[2.0, 4.0, 6.0, 8.0],
        wrong_temperatures=[1.0, 2.0, 4.0, 6.0],
        batch_size=BATCH,
        seeds=SEEDS,
        optimizer=optimizer,
        verbose=False,
    )
    results["map"] = [[*pair, *values] for pair, values in search.values.items()]
    for name, kd_weight in (("student alone", 0.0), ("student of ATS", 0.5)):
        student = network(STUDENTS[-1])
        keras.utils.set_random_seed(0)
        student.set_weights(network(STUDENTS[-1]).get_weights())
        distiller = keras_ats.Distiller(teacher, student)
        distiller.compile(optimizer(), kd_loss=methods["ATS"], kd_weight=kd_weight)
        distiller.fit(*repeated(*lesson), batch_size=BATCH, shuffle=False, verbose=0)
        kept[name] = student.predict(test[0], verbose=0).astype("float16")

    np.savez_compressed(FOLDER / "digits.npz", **kept)
    (FOLDER / "digits.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
