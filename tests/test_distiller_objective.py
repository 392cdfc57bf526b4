"""Distiller, point 1: the objective, against float64 NumPy and against plain Keras."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers
from keras.losses import SparseCategoricalCrossentropy

from keras_ats import Distiller
from keras_ats.losses import AsymmetricTemperatureKD, TemperatureKD

pytestmark = cases_in_turn("weights, endings and labels meet the same terms on each backend")

L2 = 0.01


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def sgd(learning_rate=0.0):
    """By default nothing moves, so every batch and every epoch see the same student."""
    return keras.optimizers.SGD(learning_rate)


def parts(teacher, student, x, y):
    """Cross-entropy and ATS loss of each sample, from what the models predict."""
    rows = models.one_hot(y)
    student_logits = models.outputs(student, x)
    teacher_logits = models.outputs(teacher, x)
    return (
        models.cross_entropy(rows, student_logits),
        models.ats(rows, student_logits, teacher_logits),
    )


def l2_of(student):
    return L2 * sum(np.sum(np.square(layer.kernel)) for layer in student.layers[-1:])


@pytest.fixture
def pair():
    """A teacher, and a student with L2."""
    return models.sequential(16), models.linear(kernel_regularizer=keras.regularizers.L2(L2))


@pytest.mark.parametrize(
    ("weights", "student_weight"),
    [
        ({}, 0.5),
        ({"kd_weight": 0.3}, 0.7),
        ({"kd_weight": 1.0}, 0.0),
        ({"kd_weight": 0.0, "student_weight": 0.5}, 0.5),
        ({"kd_weight": 0.3, "student_weight": 2.0}, 2.0),
    ],
    ids=str,
)
def test_objective_is_the_weighted_sum_plus_regularisation(rng, pair, weights, student_weight):
    teacher, student = pair
    x, y = models.features(rng)
    student_loss, kd_loss = parts(teacher, student, x, y)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(0.1), kd_loss=AsymmetricTemperatureKD(4, 2), **weights)
    regularisation = l2_of(student)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    close(logs["student_loss"], student_loss.mean())
    close(logs["kd_loss"], kd_loss.mean())
    kd_weight = weights.get("kd_weight", 0.5)
    close(
        logs["loss"],
        student_weight * student_loss.mean() + kd_weight * kd_loss.mean() + regularisation,
    )


def test_sample_weights_count_in_both_terms(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    weights = rng.uniform(0, 3, len(x)).astype("float32")
    student_loss, kd_loss = (part * weights for part in parts(teacher, student, x, y))
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    logs = distiller.train_on_batch(x, y, weights, return_dict=True)
    close(logs["student_loss"], student_loss.mean())
    close(logs["kd_loss"], kd_loss.mean())
    close(logs["loss"], (student_loss + kd_loss).mean() / 2 + l2_of(student))


@pytest.mark.parametrize("form", ["ids", "one-hot"])
def test_class_weights_count_in_both_terms(rng, pair, form):
    teacher, student = pair
    x, y = models.features(rng)
    class_weight = {0: 0.0, 1: 0.5, 2: 3.0}
    weights = np.array([class_weight[label] for label in y])
    student_loss, kd_loss = (part * weights for part in parts(teacher, student, x, y))
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    labels = y if form == "ids" else models.one_hot(y)
    logs = distiller.fit(x, labels, class_weight=class_weight, verbose=0).history
    close(logs["student_loss"], [student_loss.mean()])
    close(logs["kd_loss"], [kd_loss.mean()])
    close(logs["loss"], [(student_loss + kd_loss).mean() / 2 + l2_of(student)])


def test_weight_zero_leaves_only_the_regularisation(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(0.1), kd_loss=AsymmetricTemperatureKD(4, 2))
    regularisation = l2_of(student)
    kernel, bias = student.get_weights()
    logs = distiller.train_on_batch(x, y, np.zeros(len(x)), return_dict=True)
    close([logs["student_loss"], logs["kd_loss"]], [0, 0], 1e-6)
    close(logs["loss"], regularisation)
    # What is left trains: plain weight decay.
    close(student.get_weights()[0], kernel * (1 - 0.1 * 2 * L2), 1e-6)
    np.testing.assert_array_equal(student.get_weights()[1], bias)


def test_a_sample_of_weight_zero_has_no_say(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    weights = np.ones(len(x), "float32")
    weights[5:] = 0
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(0.1), kd_loss=AsymmetricTemperatureKD(4, 2))
    before = student.get_weights()
    distiller.train_on_batch(x, y, weights)
    trained = student.get_weights()
    student.set_weights(before)
    x[5:], y[5:] = 9.0, 0
    distiller.train_on_batch(x, y, weights)
    for actual, expected in zip(student.get_weights(), trained, strict=True):
        close(actual, expected, 1e-6)


@pytest.mark.parametrize(("softmax", "weighted"), [(False, False), (True, True)])
def test_padding_has_no_say_in_either_term(softmax, weighted):
    teacher, student = models.tokens(8), models.tokens(softmax=softmax)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    for padding in (0, 3):
        rng = np.random.default_rng(1)  # The same sentences, followed by more or less padding.
        x, y = models.sentences(rng, padding=padding)
        valid = x != 0
        weights = np.ones(x.shape, "float32")
        if weighted:
            weights[:, : models.TOKENS] = rng.uniform(0, 3, (len(x), models.TOKENS))
        rows = models.one_hot(y)
        outputs = models.outputs(student, x)
        student_logits = np.log(outputs) if softmax else outputs
        teacher_logits = models.outputs(teacher, x)
        student_loss, kd_loss = (
            (values * weights)[valid].mean()
            for values in (
                models.cross_entropy(rows, student_logits),
                models.ats(rows, student_logits, teacher_logits),
            )
        )
        if padding == 0:
            unpadded = (student_loss, kd_loss)
        close((student_loss, kd_loss), unpadded)
        y[~valid] = models.CLASSES - 1 if padding else 0  # What stands there does not matter.
        logs = distiller.train_on_batch(x, y, weights if weighted else None, return_dict=True)
        close(logs["student_loss"], student_loss)
        close(logs["kd_loss"], kd_loss)
        close(logs["loss"], (student_loss + kd_loss) / 2)


@pytest.mark.parametrize("samples", [4, models.TOKENS])
def test_one_weight_per_sentence_counts_for_its_tokens(rng, samples):
    # Keras's own losses cannot: they fail, or weigh tokens if there are as many as sentences.
    teacher, student = models.tokens(8), models.tokens()
    x, y = models.sentences(rng, samples)
    weights = rng.uniform(0, 3, samples).astype("float32")
    student_loss, kd_loss = (
        (values * weights[:, None])[x != 0].mean() for values in parts(teacher, student, x, y)
    )
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    logs = distiller.train_on_batch(x, y, weights, return_dict=True)
    close(logs["kd_loss"], kd_loss)
    close(logs["student_loss"], student_loss)


def test_a_batch_of_nothing_but_padding_gives_zero(rng):
    teacher, student = models.tokens(8), models.tokens()
    x, y = models.sentences(rng)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(0.1), kd_loss=TemperatureKD(3))
    before = student.get_weights()
    logs = distiller.train_on_batch(np.zeros_like(x), y, return_dict=True)
    assert logs == {"loss": 0.0, "student_loss": 0.0, "kd_loss": 0.0}
    for actual, expected in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


class Penalised(layers.Layer):
    """Adds a loss of its own, as layers of any kind may."""

    def call(self, inputs):
        self.add_loss(0.7 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def penalised_student(softmax):
    inputs = keras.Input((models.FEATURES,))
    hidden = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1")(inputs)
    hidden = Penalised()(hidden)
    outputs = layers.Dense(
        models.CLASSES, "softmax" if softmax else None, activity_regularizer="l2"
    )(hidden)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("softmax", [False, True])
def test_losses_within_the_student_count_once_and_in_full(rng, softmax):
    teacher, student = models.sequential(16), penalised_student(softmax)
    x, y = models.features(rng)
    student.compile(sgd(), SparseCategoricalCrossentropy(from_logits=not softmax), run_eagerly=True)
    plain = student.evaluate(x, y, verbose=0)
    outputs = models.outputs(student, x)
    logits = np.log(outputs) if softmax else outputs
    student_loss = models.cross_entropy(models.one_hot(y), logits).mean()
    regularisation = plain - student_loss
    assert regularisation > 0.1
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    for kd_weight in (0.0, 0.3, 1.0):
        distiller.kd_weight.assign(kd_weight)
        distiller.reset_metrics()  # `train_on_batch` does so only since Keras 3.15.
        logs = distiller.train_on_batch(x, y, return_dict=True)
        close(logs["student_loss"], student_loss)
        data_terms = (1 - kd_weight) * logs["student_loss"] + kd_weight * logs["kd_loss"]
        close(logs["loss"], data_terms + regularisation)
    logs = distiller.evaluate(x, y, return_dict=True, verbose=0)
    close((logs["loss"], logs["student_loss"]), (plain, student_loss))


def test_losses_within_the_student_train_it_in_full(rng):
    x, y = models.features(rng)
    student = penalised_student(softmax=False)
    before = student.get_weights()
    trained = []
    for kd_weight in (0.0, 1.0):
        student.set_weights(before)
        distiller = Distiller(models.sequential(), student)
        distiller.compile(sgd(0.1), kd_loss=TemperatureKD(2), kd_weight=kd_weight)
        # No sample counts, so what moves the student is regularisation alone.
        distiller.train_on_batch(x, y, np.zeros(len(x)))
        trained.append(student.get_weights())
    assert np.abs(trained[0][0] - before[0]).max() > 1e-4
    for first, second in zip(*trained, strict=True):
        close(first, second, 1e-6)


@pytest.mark.parametrize("kind", ["sequential", "subclassed"])
def test_without_distillation_it_trains_as_keras_does(rng, kind):
    x, y = models.features(rng, 20)
    weights = rng.uniform(0, 2, len(x)).astype("float32")
    student = getattr(models, kind)()
    before = student.get_weights()
    student.compile(keras.optimizers.Adam(0.05), SparseCategoricalCrossentropy(from_logits=True))
    arguments = {"sample_weight": weights, "batch_size": 10, "shuffle": False, "verbose": 0}
    plain = student.fit(x, y, epochs=2, **arguments).history["loss"]
    expected = student.get_weights()
    student.set_weights(before)
    distiller = Distiller(models.sequential(16), student, student_from_logits=True)
    distiller.compile(keras.optimizers.Adam(0.05), kd_loss=TemperatureKD(4), kd_weight=0)
    history = distiller.fit(x, y, epochs=2, **arguments).history
    close(history["loss"], plain)
    close(history["student_loss"], plain)
    for actual, plainly in zip(student.get_weights(), expected, strict=True):
        close(actual, plainly)


def test_loss_scaling_changes_neither_step_nor_logs(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    before = student.get_weights()
    results = []
    for optimizer in (
        sgd(0.1),
        keras.optimizers.LossScaleOptimizer(sgd(0.1), initial_scale=2.0**10),
    ):
        student.set_weights(before)
        distiller = Distiller(teacher, student)
        distiller.compile(optimizer, kd_loss=AsymmetricTemperatureKD(4, 2))
        logs = distiller.train_on_batch(x, y, return_dict=True)
        results.append((student.get_weights(), {name: float(logs[name]) for name in logs}))
    (plain, plain_logs), (scaled, scaled_logs) = results
    assert np.abs(plain[0] - before[0]).max() > 1e-3
    for actual, expected in zip(scaled, plain, strict=True):
        close(actual, expected, 1e-6)
    assert scaled_logs == pytest.approx(plain_logs, rel=1e-6)


class Assigns(keras.callbacks.Callback):
    """Gives a variable of the distiller the next value, at each epoch or at each batch."""

    def __init__(self, values, variable, each):
        super().__init__()
        self.values = iter(values)
        self.variable = variable
        self.each = each

    def on_epoch_begin(self, epoch, logs=None):
        if self.each == "epoch":
            self.variable(self.model).assign(next(self.values))

    def on_train_batch_begin(self, batch, logs=None):
        if self.each == "batch":
            self.variable(self.model).assign(next(self.values))


def test_kd_weight_may_change_during_training(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    student_loss, kd_loss = parts(teacher, student, x, y)
    values = np.array([0.2, 0.9, 0.0, 1.0])
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    change = Assigns(values, lambda model: model.kd_weight, "epoch")
    history = distiller.fit(x, y, epochs=4, callbacks=[change], **arguments).history
    expected = (1 - values) * student_loss.mean() + values * kd_loss.mean() + l2_of(student)
    close(history["loss"], expected)
    change = Assigns(values, lambda model: model.kd_weight, "batch")
    history = distiller.fit(x, y, callbacks=[change], **arguments).history
    of_samples = np.repeat(values, 4)
    expected = np.mean((1 - of_samples) * student_loss + of_samples * kd_loss) + l2_of(student)
    close(history["loss"], [expected])


def test_a_given_student_weight_stays_when_kd_weight_changes(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    student_loss, kd_loss = (part.mean() for part in parts(teacher, student, x, y))
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2), student_weight=1.0)
    change = Assigns([0.2, 0.9], lambda model: model.kd_weight, "epoch")
    history = distiller.fit(x, y, epochs=2, callbacks=[change], verbose=0).history
    expected = [student_loss + weight * kd_loss + l2_of(student) for weight in (0.2, 0.9)]
    close(history["loss"], expected)


def test_temperatures_may_change_during_training(rng, pair):
    teacher, student = pair
    x, y = models.features(rng)
    rows, logits = models.one_hot(y), models.outputs(student, x)
    teacher_logits = models.outputs(teacher, x)
    asymmetric = Distiller(teacher, student)
    asymmetric.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2))
    constant = Distiller(teacher, student)
    constant.compile(sgd(), kd_loss=TemperatureKD(4))
    for distiller, name, values, reference in (
        (
            asymmetric,
            "correct_temperature",
            [1.5, 9, 4],
            lambda value: models.ats(rows, logits, teacher_logits, value, 2),
        ),
        (
            asymmetric,
            "wrong_temperature",
            [0.5, 4, 2],
            lambda value: models.ats(rows, logits, teacher_logits, 4, value),
        ),
        (
            constant,
            "temperature",
            [4, 1, 8],
            lambda value: models.kd(logits, teacher_logits, value),
        ),
    ):
        change = Assigns(values, lambda model, name=name: getattr(model.kd_loss, name), "epoch")
        history = distiller.fit(x, y, epochs=3, callbacks=[change], verbose=0).history
        close(history["kd_loss"], [reference(value).mean() for value in values])


def test_logs_are_averages_over_samples_not_batches(rng, pair):
    teacher, student = pair
    x, y = models.features(rng, 10)
    student_loss, kd_loss = (part.mean() for part in parts(teacher, student, x, y))
    expected = (student_loss, kd_loss, (student_loss + kd_loss) / 2 + l2_of(student))
    names = ("student_loss", "kd_loss", "loss")
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(), kd_loss=AsymmetricTemperatureKD(4, 2), evaluate_teacher=True)
    data = models.batches(x, y, size=4)  # The last batch has 2 samples.
    history = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    for prefix in ("", "val_"):
        for name, value in zip(names, expected, strict=True):
            close(history[prefix + name], [value, value])


def test_validation_is_the_plain_students(rng, pair):
    teacher, student = pair
    x, y = models.features(rng, 12)
    weights = rng.uniform(0, 3, len(x)).astype("float32")
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(0.1), kd_loss=AsymmetricTemperatureKD(4, 2), metrics=["accuracy"])
    data = models.batches(x, y, weights, size=4)
    history = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    names = {"loss", "student_loss", "accuracy"}
    assert set(history) == {"kd_loss"} | names | {f"val_{name}" for name in names}
    student.compile(loss=SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    plain = student.evaluate(data, return_dict=True, verbose=0)
    close(history["val_loss"][-1], plain["loss"], 1e-6)
    close(history["val_accuracy"][-1], plain["accuracy"], 1e-6)
    close(history["val_student_loss"][-1], plain["loss"] - l2_of(student))
    evaluated = distiller.evaluate(data, return_dict=True, verbose=0)
    assert evaluated == {name: pytest.approx(history[f"val_{name}"][-1]) for name in names}


@pytest.mark.parametrize("softmax", [False, True])
def test_one_step_is_the_papers(rng, softmax):
    """Gradient of (1 - 0.5) CE + 0.5 ATS(4, 2) for a linear student, written by hand."""
    teacher, student = models.sequential(16), models.linear(softmax)
    x, y = models.features(rng)
    kernel, bias = (value.astype("float64") for value in student.get_weights())
    rows, teacher_logits = models.one_hot(y), models.outputs(teacher, x)
    targets = models.ats_targets(rows, teacher_logits, 4, 2)
    probabilities = np.exp(models.log_softmax(x @ kernel + bias))
    slope = (0.5 * (probabilities - rows) + 0.5 * (probabilities - targets)) / len(x)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(2.0), kd_loss=AsymmetricTemperatureKD(4, 2), kd_weight=0.5)
    distiller.train_on_batch(x, y)
    close(student.get_weights()[0], kernel - 2.0 * x.T @ slope, 3e-6)
    close(student.get_weights()[1], bias - 2.0 * slope.sum(axis=0), 3e-6)


def test_one_step_is_hintons(rng):
    """Gradient of 0.1 CE + 0.9 T^2 KL at T=3 for a linear student, written by hand."""
    teacher, student = models.sequential(16), models.linear()
    x, y = models.features(rng)
    kernel, bias = (value.astype("float64") for value in student.get_weights())
    logits = x @ kernel + bias
    softened = np.exp(models.log_softmax(logits, 3))
    targets = np.exp(models.log_softmax(models.outputs(teacher, x), 3))
    hard = np.exp(models.log_softmax(logits)) - models.one_hot(y)
    slope = (0.1 * hard + 0.9 * 3 * (softened - targets)) / len(x)
    distiller = Distiller(teacher, student)
    distiller.compile(sgd(1.0), kd_loss=TemperatureKD(3), kd_weight=0.9)
    distiller.train_on_batch(x, y)
    close(student.get_weights()[0], kernel - x.T @ slope, 3e-6)
    close(student.get_weights()[1], bias - slope.sum(axis=0), 3e-6)
