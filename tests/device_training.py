"""The training run that all tests of several devices compare."""

import contextlib

import keras
import numpy as np

CLASSES, FEATURES, SAMPLES, BATCH, EPOCHS = 3, 5, 32, 8, 3
TEACHER_UNITS = 8


def make_data():
    """Inputs, labels and weights, very unequal over devices: a mean of means is not the mean."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, SAMPLES)
    weights = rng.uniform(0.1, 1, SAMPLES) * np.tile([1, 1, 1, 9, 1, 9, 1, 9], SAMPLES // BATCH)
    return x, y, weights.astype("float32")


def make_distiller(batch_norm=False, with_lesson_metrics=True):
    """A run in which every part of the objective counts."""
    import keras_ats

    lesson_metrics = [
        keras_ats.metrics.DerivedVariance(),
        keras_ats.metrics.ExpectedCalibrationError(of="student"),
    ]
    rng = np.random.default_rng(1)
    teacher = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(TEACHER_UNITS, "tanh", name="wide"),
            keras.layers.Dense(TEACHER_UNITS, "tanh", name="wide_again"),
            keras.layers.Dense(CLASSES, "softmax"),
        ],
        name="teacher",
    )
    # TensorFlow alone has to be asked for the statistics of the global batch.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    hidden = [keras.layers.Dense(4, "tanh", kernel_regularizer="l2")]
    if batch_norm:
        hidden.append(keras.layers.BatchNormalization(synchronized=on_tensorflow))
    else:
        # Before synchronised BatchNorm, Keras's own models train otherwise on two replicas.
        hidden[0].activity_regularizer = keras.regularizers.L1(0.01)
    student = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            *hidden,
            keras.layers.Dense(CLASSES, kernel_regularizer="l2"),
        ],
        name="student",
    )
    for layer in [*teacher.layers, *student.layers]:
        if isinstance(layer, keras.layers.Dense):
            layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.2, momentum=0.9),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2),
        kd_weight=0.3,
        metrics=["accuracy"],
        weighted_metrics=["sparse_categorical_crossentropy"],
        evaluate_teacher=True,
        distillation_metrics=lesson_metrics if with_lesson_metrics else [],
    )
    return distiller


def train(
    scope=None,
    *,
    batch_norm=False,
    with_lesson_metrics=True,
    shares=1,
    share=0,
    as_dataset=False,
    examine=None,
):
    """One run; a process may feed its share of every batch, or the whole as a dataset."""
    with scope or contextlib.nullcontext():
        distiller = make_distiller(batch_norm, with_lesson_metrics)
    x, y, weights = make_data()
    if as_dataset:
        import tensorflow as tf

        def batches(size, *arrays):
            return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

        training = {"x": batches(BATCH, x, y, weights)}
        validation = {"validation_data": batches(2 * BATCH, x[::-1], y[::-1], weights)}
    else:
        mine = slice(share, None, shares)
        training = {
            "x": x[mine],
            "y": y[mine],
            "sample_weight": weights[mine],
            "batch_size": BATCH // shares,
        }
        validation = {
            "validation_data": (x[::-1][mine], y[::-1][mine], weights[mine]),
            "validation_batch_size": 2 * BATCH // shares,
        }
    options = {"shuffle": False, "verbose": 0, "epochs": EPOCHS}
    history = distiller.fit(**training, **validation, **options).history
    student = distiller.student
    return {
        "logs": history,
        "weights": [weight.tolist() for weight in student.get_weights()],
        "devices": devices_of(student.weights[0].value),
        **(examine(distiller) if examine else {}),
    }


def devices_of(tensor):
    if hasattr(tensor, "sharding"):
        return len(tensor.sharding.device_set)
    replicas = getattr(tensor, "values", None)  # of a MirroredVariable; elsewhere a method
    return len(replicas) if isinstance(replicas, tuple) else 1
