"""Point 8: whatever the data comes in, the same numbers come out as from NumPy arrays."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

import keras_ats
from tests import models

BATCH, EPOCHS = 4, 2


def _arrays(rng, kind):
    """Inputs, labels and weights; 10 samples, so that the last batch is smaller."""
    if kind == "tokens":
        x, y = models.sentences(rng, samples=10)
        weights = rng.uniform(0.1, 2, y.shape)
    elif kind == "pixels":
        x, y = models.images(rng, samples=10)
        weights = rng.uniform(0.1, 2, y.shape)
    else:
        x, y = models.features(rng, samples=10)
        weights = rng.uniform(0.1, 2, len(y))
        if kind == "column":
            y = y[:, None]
        elif kind == "one_hot":
            y = np.eye(models.CLASSES, dtype="float32")[y]
        elif kind == "soft":
            y = rng.dirichlet([1] * models.CLASSES, len(y)).astype("float32")
    return x, y, weights.astype("float32")


def _pair(kind):
    build = {"tokens": models.tokens, "pixels": models.dense_conv}.get(kind, models.sequential)
    return keras_ats.Distiller(build(width=6), build(width=3, softmax=True))


def _from_numpy(arrays):
    x, y, weights = arrays
    return {"x": x, "y": y, "sample_weight": weights, "batch_size": BATCH, "shuffle": False}


def _from_tf_data(arrays):
    tf = pytest.importorskip("tensorflow")
    return {"x": tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)}


def _from_torch_loader(arrays):
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(*(torch.as_tensor(array) for array in arrays))
    return {"x": torch.utils.data.DataLoader(dataset, batch_size=BATCH), "shuffle": False}


def _from_py_dataset(arrays):
    return {"x": models.batches(*arrays, size=BATCH), "shuffle": False}


def _from_generator(arrays):
    def generate():
        while True:
            for start in range(0, len(arrays[0]), BATCH):
                yield tuple(array[start : start + BATCH] for array in arrays)

    steps = -(-len(arrays[0]) // BATCH)
    return {"x": generate(), "steps_per_epoch": steps, "shuffle": False}


SOURCES = {
    "tf_data": _from_tf_data,
    "torch_loader": _from_torch_loader,
    "py_dataset": _from_py_dataset,
    "generator": _from_generator,
}


def _logs(kind, source, arrays, validation, **compile_arguments):
    """History of a run from the same start, whatever the source."""
    keras.utils.set_random_seed(1)
    distiller = _pair(kind)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(),
        evaluate_teacher=True,
        **{"weighted_metrics": ["accuracy"], **compile_arguments},
    )
    data = source(arrays)
    if source is _from_generator:
        # An endless generator cannot be validated on; its steps have a name of their own.
        held_out = source(validation)
        data["validation_data"] = held_out["x"]
        data["validation_steps"] = held_out["steps_per_epoch"]
    elif source is _from_numpy:
        data["validation_data"] = validation
        data["validation_batch_size"] = BATCH
    else:
        data["validation_data"] = source(validation)["x"]
    return distiller.fit(epochs=EPOCHS, verbose=0, **data).history


@functools.cache
def _runs(kind):
    """Two sets of arrays, and the logs of the NumPy run on them."""
    rng = np.random.default_rng(3)
    arrays, validation = _arrays(rng, kind), _arrays(rng, kind)
    return arrays, validation, _logs(kind, _from_numpy, arrays, validation)


def _assert_same(logs, expected):
    assert sorted(logs) == sorted(expected)
    for name in expected:
        np.testing.assert_allclose(logs[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["ids", "column", "soft", "pixels", "tokens"])
def test_every_source_gives_the_logs_of_numpy(kind, source):
    arrays, validation, expected = _runs(kind)
    assert {"loss", "student_loss", "kd_loss", "accuracy", "val_kd_loss"} <= set(expected)
    assert np.all(np.isfinite(list(expected.values())))
    assert expected["loss"][1] < expected["loss"][0]
    _assert_same(_logs(kind, SOURCES[source], arrays, validation), expected)


@pytest.mark.parametrize("form", ["column", "one_hot", "float_ids", "int64"])
def test_every_form_of_the_labels_gives_the_logs_of_ids(form):
    (x, y, weights), (x2, y2, weights2), expected = _runs("ids")
    convert = {
        "column": lambda ids: ids[:, None],
        "one_hot": lambda ids: np.eye(models.CLASSES, dtype="float32")[ids],
        "float_ids": lambda ids: ids.astype("float32"),
        "int64": lambda ids: ids.astype("int64"),
    }[form]
    logs = _logs("ids", _from_numpy, (x, convert(y), weights), (x2, convert(y2), weights2))
    _assert_same(logs, expected)


def test_soft_labels_are_not_rounded():
    """Against NumPy: with labels of 0.7 and 0.3 both losses see 0.7 and 0.3."""
    (x, y, weights), _, _ = _runs("soft")
    distiller = _pair("soft")
    distiller.compile(
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), evaluate_teacher=True
    )
    logs = distiller.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    log_p = np.log(distiller.predict(x, verbose=0).astype("float64"))
    temperature = 4 * y + 2 * (1 - y)
    targets = np.exp(distiller.teacher.predict(x, verbose=0).astype("float64") / temperature)
    targets /= targets.sum(-1, keepdims=True)
    student = -np.mean(weights * (y * log_p).sum(-1))
    kd = -np.mean(weights * (targets * log_p).sum(-1))
    assert logs["student_loss"] == pytest.approx(student, abs=1e-5)
    assert logs["kd_loss"] == pytest.approx(kd, abs=1e-5)
    assert logs["loss"] == pytest.approx((student + kd) / 2, abs=1e-5)


@pytest.mark.parametrize("form", ["one_hot", "column"])
@pytest.mark.parametrize("kind", ["tokens", "pixels"])
def test_forms_of_dense_labels(kind, form):
    (x, y, weights), (x2, y2, weights2), expected = _runs(kind)
    convert = {
        "column": lambda ids: ids[..., None],
        "one_hot": lambda ids: np.eye(models.CLASSES, dtype="float32")[ids],
    }[form]
    logs = _logs(kind, _from_numpy, (x, convert(y), weights), (x2, convert(y2), weights2))
    _assert_same(logs, expected)


def test_one_weight_per_sample_is_that_weight_at_each_of_its_tokens():
    (x, y, weights), (x2, y2, weights2), _ = _runs("tokens")
    column, column2 = weights[:, :1], weights2[:, :1]
    same, same2 = (np.repeat(column_, y.shape[1], axis=1) for column_ in (column, column2))
    logs = [
        _logs("tokens", _from_numpy, (x, y, per_sample), (x2, y2, per_sample2))
        for per_sample, per_sample2 in ((column, column2), (same, same2))
    ]
    _assert_same(*logs)


def test_padding_counts_for_nothing():
    (x, y, weights), (x2, y2, weights2), expected = _runs("tokens")
    rng = np.random.default_rng(5)

    def disturb(x, y, weights):
        padding = x == 0
        assert padding.any()
        y = np.where(padding, rng.integers(0, models.CLASSES, y.shape), y)
        return x, y, np.where(padding, 100, weights).astype("float32")

    _assert_same(
        _logs("tokens", _from_numpy, disturb(x, y, weights), disturb(x2, y2, weights2)), expected
    )


def test_several_inputs_from_a_dataset():
    """The teacher is run on whatever structure the pipeline hands over."""
    rng = np.random.default_rng(3)
    x, y = models.features(rng, samples=10)
    named = {"left": x[:, :2], "right": x[:, 2:]}

    def build(width):
        inputs = {name: keras.Input(part.shape[1:], name=name) for name, part in named.items()}
        hidden = layers.Concatenate()([inputs["left"], inputs["right"]])
        hidden = layers.Dense(width, "tanh")(hidden)
        return keras.Model(inputs, layers.Dense(models.CLASSES)(hidden))

    def logs(**data):
        keras.utils.set_random_seed(1)
        distiller = keras_ats.Distiller(build(6), build(3))
        distiller.compile("sgd", kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
        return distiller.fit(verbose=0, **data).history

    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices((named, y)).batch(BATCH)
    _assert_same(logs(x=dataset), logs(x=named, y=y, batch_size=BATCH, shuffle=False))
