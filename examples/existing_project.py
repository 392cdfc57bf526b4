"""An ordinary Keras script in which few lines change to train the student on a teacher.

    KERAS_BACKEND=tensorflow python examples/existing_project.py

The lines that change are marked; what they replace stands behind the mark. All else, softmax
endings, string loss and metrics, callbacks and validation split, stays as it was.
"""

from pathlib import Path

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_ats  # CHANGED: new


def network(*hidden_units: int) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in hidden_units]
    output = keras.layers.Dense(10, activation="softmax")
    return keras.Sequential([keras.Input((64,)), *hidden, output])


def trained_teacher(x, y) -> keras.Model:
    """The teacher that the project already has; trained here if its file is not there."""
    if Path("teacher.keras").exists():
        return keras.saving.load_model("teacher.keras")
    teacher = network(256, 256)
    teacher.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    teacher.fit(x, y, epochs=15, batch_size=64, verbose=0)
    teacher.save("teacher.keras")
    return teacher


def fit(model: keras.Model, x, y) -> None:
    model.fit(
        *(x, y),
        epochs=40,
        batch_size=64,
        validation_split=0.2,
        callbacks=[
            keras.callbacks.EarlyStopping("val_accuracy", patience=10, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=5),
        ],
        verbose=2,
    )


def main() -> None:
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        (images / 16).astype("float32"), labels, test_size=597, random_state=0
    )
    teacher = trained_teacher(x, y)

    keras.utils.set_random_seed(1)
    student = network(16)
    model = keras_ats.Distiller(teacher, student)  # CHANGED: model = student
    model.compile(
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2),  # CHANGED: new
        metrics=["accuracy"],
    )
    fit(model, x, y)
    scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    print(f"Test accuracy of the student: {100 * scores['accuracy']:.1f} %")
    model.student.save("student.keras")  # CHANGED: model.save("student.keras")

    # For comparison only: the same script without its marked lines, from the same weights.
    keras.utils.set_random_seed(1)
    alone = network(16)
    alone.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    fit(alone, x, y)
    alone_scores = alone.evaluate(x_test, y_test, verbose=0, return_dict=True)
    print(f"Without the teacher: {100 * alone_scores['accuracy']:.1f} %")


if __name__ == "__main__":
    main()
