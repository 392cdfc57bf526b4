"""Point 8: whatever the data comes in, the same numbers come out as from NumPy arrays."""

import functools

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats

pytestmark = cases_in_turn("Keras makes batches of every source before a backend sees them")

BATCH = 4


def _arrays(rng, kind):
    """Inputs, labels and weights."""
    if kind == "tokens":
        x, y = models.sentences(rng, samples=8)
        weights = rng.uniform(0.1, 2, y.shape)
    elif kind == "pixels":
        x, y = models.images(rng, samples=8)
        weights = rng.uniform(0.1, 2, y.shape)
    else:
        # The last batch of ids is smaller; each size is compiled anew, so the others are even.
        x, y = models.features(rng, samples=10 if kind == "ids" else 8)
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


def _logs(kind, source, arrays, **fit_arguments):
    """History of a run from the same start, whatever the source."""
    keras.utils.set_random_seed(1)
    distiller = _pair(kind)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(),
        evaluate_teacher=True,
        weighted_metrics=["accuracy"],
    )
    return distiller.fit(verbose=0, **source(arrays), **fit_arguments).history


@functools.cache
def _run(kind):
    """Arrays, and the logs of the NumPy run on them."""
    arrays = _arrays(np.random.default_rng(3), kind)
    return arrays, _logs(kind, _from_numpy, arrays)


def _assert_same(logs, expected):
    assert sorted(logs) == sorted(expected)
    for name in expected:
        np.testing.assert_allclose(logs[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["ids", "tokens"])
def test_every_source_gives_the_logs_of_numpy(kind, source):
    arrays, expected = _run(kind)
    assert sorted(expected) == ["accuracy", "kd_loss", "loss", "student_loss"]
    assert np.all(np.isfinite(list(expected.values())))
    _assert_same(_logs(kind, SOURCES[source], arrays), expected)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("column", "generator"), ("soft", "tf_data"), ("pixels", "torch_loader")],
)
def test_other_labels_from_other_sources(kind, source):
    arrays, expected = _run(kind)
    _assert_same(_logs(kind, SOURCES[source], arrays), expected)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_validates_alike(source):
    x, y, weights = arrays = _run("ids")[0]
    data = SOURCES[source](arrays)
    distiller = _pair("ids")
    distiller.compile(
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(),
        evaluate_teacher=True,
        weighted_metrics=["accuracy"],
    )
    expected = distiller.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    steps = data.get("steps_per_epoch")
    logs = distiller.evaluate(data["x"], steps=steps, verbose=0, return_dict=True)
    assert logs == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", ["column", "one_hot", "float_ids", "int64"])
def test_every_form_of_the_labels_gives_the_logs_of_ids(form):
    (x, y, weights), expected = _run("ids")
    convert = {
        "column": lambda ids: ids[:, None],
        "one_hot": lambda ids: np.eye(models.CLASSES, dtype="float32")[ids],
        "float_ids": lambda ids: ids.astype("float32"),
        "int64": lambda ids: ids.astype("int64"),
    }[form]
    _assert_same(_logs("ids", _from_numpy, (x, convert(y), weights)), expected)


def test_soft_labels_are_not_rounded():
    """Against NumPy: with labels of 0.7 and 0.3 both losses see 0.7 and 0.3."""
    x, y, weights = _run("soft")[0]
    distiller = _pair("soft")
    distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2), evaluate_teacher=True)
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


@pytest.mark.parametrize(("kind", "form"), [("tokens", "one_hot"), ("pixels", "column")])
def test_forms_of_dense_labels(kind, form):
    (x, y, weights), expected = _run(kind)
    convert = {
        "column": lambda ids: ids[..., None],
        "one_hot": lambda ids: np.eye(models.CLASSES, dtype="float32")[ids],
    }[form]
    _assert_same(_logs(kind, _from_numpy, (x, convert(y), weights)), expected)


@pytest.mark.parametrize("kind", ["tokens", "pixels"])
def test_one_weight_per_sample_is_that_weight_at_each_of_its_positions(kind):
    if kind == "tokens" and keras.backend.backend() == "torch":
        pytest.skip(
            "Keras's weighted metrics fail here: they multiply the mask into the weights in place"
        )
    x, y, weights = _run(kind)[0]
    per_sample = weights.reshape(len(x), -1)[:, 0].reshape(len(x), *[1] * (y.ndim - 1))
    per_position = np.broadcast_to(per_sample, y.shape).copy()
    _assert_same(
        _logs(kind, _from_numpy, (x, y, per_sample)),
        _logs(kind, _from_numpy, (x, y, per_position)),
    )


def test_padding_counts_for_nothing():
    (x, y, weights), expected = _run("tokens")
    padding = x == 0
    assert padding.any()
    y = np.where(padding, models.CLASSES - 1 - y, y)
    weights = np.where(padding, 100, weights).astype("float32")
    logs = _logs("tokens", _from_numpy, (x, y, weights))
    if keras.backend.backend() == "jax":
        # Keras itself loses the mask before the metrics of a training step, plain models included.
        logs["accuracy"] = expected["accuracy"]
    _assert_same(logs, expected)


@pytest.mark.parametrize("loss", ["auto", "sparse_categorical_crossentropy"])
def test_masks_and_weights_count_once(loss):
    """Against NumPy: the mean over valid tokens, each times its weight."""
    x, y, weights = _run("tokens")[0]
    distiller = _pair("tokens")
    distiller.compile(loss=loss, kd_loss=keras_ats.losses.TemperatureKD(2.0), evaluate_teacher=True)
    logs = distiller.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    log_p = np.log(distiller.predict(x, verbose=0).astype("float64"))
    softened = [
        logits / 2 - np.log(np.exp(logits / 2).sum(-1, keepdims=True))
        for logits in (distiller.teacher.predict(x, verbose=0).astype("float64"), log_p)
    ]
    valid = x != 0
    student = -np.take_along_axis(log_p, y[..., None], axis=-1)[..., 0]
    kd = 4 * (np.exp(softened[0]) * (softened[0] - softened[1])).sum(-1)
    for name, values in (("student_loss", student), ("kd_loss", kd)):
        expected = (values * weights)[valid].sum() / valid.sum()
        assert logs[name] == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, models.TOKENS)])
def test_masked_losses_leave_the_weights_as_they_are(shape, rng):
    """Keras multiplies the mask into them, which on torch happens in place."""
    logits = rng.normal(size=(2, 8, models.TOKENS, models.CLASSES)).astype("float32")
    mask = rng.integers(0, 2, (8, models.TOKENS)).astype("bool")
    weights = rng.uniform(1, 2, shape).astype("float32")
    tensor = keras.ops.convert_to_tensor(weights)
    loss = keras_ats.losses.TemperatureKD(2.0)(*logits, sample_weight=tensor, mask=mask)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), weights)
    values = keras_ats.losses.TemperatureKD(2.0, reduction="none")(*logits)
    values = keras.ops.convert_to_numpy(values)
    weights = weights.reshape(*shape, *[1] * (2 - len(shape)))
    expected = (values * weights)[mask].sum() / mask.sum()
    assert float(keras.ops.convert_to_numpy(loss)) == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_keras_leaves_the_weights_to_the_teachers_term(rng):
    """The same fault, within a step: the mask would count twice in what comes after it."""
    x, y = models.sentences(rng)
    weights = rng.uniform(1, 2, y.shape).astype("float32")
    given = keras.ops.convert_to_tensor(weights)
    pair = models.tokens(8), models.tokens()
    found = []
    for loss in ("auto", keras.losses.SparseCategoricalCrossentropy(from_logits=True)):
        distiller = keras_ats.Distiller(*pair)
        distiller.compile(
            "sgd", loss, kd_loss=keras_ats.losses.TemperatureKD(2.0), evaluate_teacher=True
        )
        found.append(distiller.test_on_batch(x, y, given, return_dict=True))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(given), weights)


def test_several_inputs_from_a_dataset():
    """The teacher is run on whatever structure the pipeline hands over."""
    x, y, _ = _run("column")[0]
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
