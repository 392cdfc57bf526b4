"""Labels that are none are refused before the first batch, by what the losses need of them."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import (
    AsymmetricTemperatureKD,
    BernoulliKD,
    GaussianKD,
    LogitMSE,
    RegressionKD,
    TemperatureKD,
)
from keras_ats.ops.label_range import invalid_labels

pytestmark = cases_in_turn("labels are looked at by NumPy")

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy
ROWS = np.tile(np.array([0.2, 0.3, 0.5]), (16, 1))


def softmax_pair(loss="auto", kd_loss=None, **arguments):
    distiller = keras_ats.Distiller(models.linear(), models.linear(softmax=True))
    distiller.compile(
        "sgd", loss, kd_loss=kd_loss or AsymmetricTemperatureKD(), run_eagerly=True, **arguments
    )
    return distiller


def head(units, activation=None):
    return keras.Sequential([keras.Input((models.FEATURES,)), layers.Dense(units, activation)])


def inputs():
    return np.ones((16, models.FEATURES), "float32")


def with_first(value, dtype="float32"):
    """Ids of which the first is no id."""
    return np.array([value] + [0, 1, 2] * 5, dtype)


NO_LABELS = {
    "fraction": (with_first(0.7), ValueError, "whole numbers.*with 0.7.*RegressionKD"),
    "nan": (with_first(np.nan), ValueError, "whole numbers.*with nan"),
    "infinite": (with_first(np.inf), ValueError, "whole numbers.*with inf"),
    "column": (with_first(0.7)[:, None], ValueError, "whole numbers.*with 0.7"),
    "from one": (with_first(3, "int32"), ValueError, "from 0 to 2.*labels from 0 to 3.*labels - 1"),
    "wrapped": (with_first(2**32 + 1, "int64"), ValueError, "from 0 to 4294967297"),
    "wrapped unsigned": (with_first(2**32 - 1, "uint32"), ValueError, "from 0 to 4294967295"),
    "complex": (with_first(1j, "complex64"), TypeError, "complex64, such as .*numpy.real"),
    "strings": (np.array(["cat", "dog"] * 8), TypeError, "such as .*'cat'.*numpy.unique"),
    "objects": (np.array(["cat", None] * 8, object), TypeError, "object, such as 'cat'"),
    "dates": (np.zeros(16, "datetime64[D]"), TypeError, "datetime64"),
    "zeros": (0 * ROWS, ValueError, r"the row \[0, 0, 0\].*sum is 0.*sample weight of 0"),
    "percent": (100 * ROWS, ValueError, r"\[20, 30, 50\].*sum is 100.*divide by 100"),
    "logits": (np.log(ROWS), ValueError, "sum is -.*ops.softmax"),
    "negative": (ROWS - [0.5, 0, -0.5], ValueError, r"\[-0.3, 0.3, 1\].*sum is 1"),
    "rows of nan": (np.nan * ROWS, ValueError, "sum is nan.*Remove samples"),
    "several": (np.tile([1, 1, 0], (16, 1)), ValueError, r"sum is 2.*BernoulliKD\(4, 2\)"),
    "counts": (np.tile([3, 4, 3], (16, 1)), ValueError, "sum is 10.*division by their sum"),
}
ENTRANCES = {
    "fit": ("y", lambda distiller, y: distiller.fit(inputs(), y, verbose=0)),
    "train_on_batch": ("y", lambda distiller, y: distiller.train_on_batch(inputs(), y)),
    "evaluate": ("y", lambda distiller, y: distiller.evaluate(inputs(), y, verbose=0)),
    "test_on_batch": ("y", lambda distiller, y: distiller.test_on_batch(inputs(), y)),
    "validation": (
        "y of validation_data",
        lambda distiller, y: distiller.fit(
            inputs(), np.zeros(16, int), validation_data=(inputs(), y), verbose=0
        ),
    ),
}


@pytest.fixture(scope="module")
def distiller():
    return softmax_pair()


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", NO_LABELS)
def test_no_labels(distiller, kind, entrance):
    y, error, message = NO_LABELS[kind]
    argument, enter = ENTRANCES[entrance]
    before = models.numpy_weights(distiller.student)
    with pytest.raises(error, match=f"(?s)(?=.*{message})(?=.*Received: .*{argument})"):
        enter(distiller, y)
    np.testing.assert_equal(models.numpy_weights(distiller.student), before)


@pytest.mark.parametrize("entrance", ["fit", "evaluate"])
def test_labels_of_the_backend_are_looked_at_too(distiller, entrance):
    with pytest.raises(ValueError, match="whole numbers"):
        ENTRANCES[entrance][1](distiller, keras.ops.convert_to_tensor(with_first(0.7)))


LABELS = {
    "ids": with_first(2, "int64"),
    "ids as float": with_first(2.0),
    "ids as bytes": with_first(2, "uint8"),
    "yes or no": with_first(1, "int32") == 1,
    "objects that are numbers": with_first(2, "int64").astype(object).astype("float64"),
    "one-hot": np.eye(3, dtype="int32")[with_first(2, "int64")],
    "mixup": 0.3 * np.eye(3)[with_first(2, "int64")] + 0.7 * np.eye(3)[::-1][with_first(1, "int")],
    "mixup in half precision": ROWS.astype("float16"),
    "nearly 1": ROWS * 1.004,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels(distiller, kind):
    logs = distiller.fit(inputs(), LABELS[kind], verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert np.isfinite(
        distiller.evaluate(inputs(), LABELS[kind], verbose=0, return_dict=True)["loss"]
    )


def test_a_sample_of_weight_0_needs_no_row():
    weights = np.ones(16)
    weights[:4] = 0
    rows = np.where(weights[:, None] == 0, 0.0, ROWS)
    distiller = softmax_pair()
    with pytest.raises(ValueError, match="sum is 0"):
        distiller.fit(inputs(), rows, verbose=0)
    logs = distiller.fit(
        inputs(), rows, sample_weight=weights, validation_data=(inputs(), rows, weights), verbose=0
    ).history
    assert np.isfinite([logs["loss"], logs["val_loss"]]).all()


def test_rows_of_zeros_are_padding_where_a_sample_has_many_positions(rng):
    x, y = models.sentences(rng, padding=2)
    rows = np.where(x[..., None] == 0, 0.0, models.one_hot(y))
    distiller = keras_ats.Distiller(models.tokens(8), models.tokens(4))
    distiller.compile("sgd", kd_loss=AsymmetricTemperatureKD(), run_eagerly=True)
    assert np.isfinite(distiller.fit(x, rows, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="sum is 100"):
        distiller.fit(x, 100 * rows, verbose=0)


IGNORED = {
    "ignore_class": (CROSSENTROPY(ignore_class=-100), AsymmetricTemperatureKD()),
    "ignore_label": (None, AsymmetricTemperatureKD(ignore_label=-100)),
    "ignore_label beside mse": ("mse", AsymmetricTemperatureKD(ignore_label=-100)),
}


@pytest.mark.parametrize("kind", IGNORED)
def test_ignored_ids_are_no_labels_and_no_fault(kind):
    loss, kd_loss = IGNORED[kind]
    if loss == "mse":
        rule = keras_ats.distiller.labels.label_rule(loss, [kd_loss])
        assert rule == keras_ats.distiller.labels.LabelRule("classes", (-100,))
        return
    distiller = softmax_pair(loss, kd_loss)
    assert np.isfinite(
        distiller.fit(inputs(), with_first(-100, "int32"), verbose=0).history["loss"]
    )
    with pytest.raises(ValueError, match="from -1 to 2"):
        distiller.fit(inputs(), with_first(-1, "int32"), verbose=0)


@pytest.mark.parametrize("loss", ["auto", "binary_crossentropy", None])
def test_answers_of_sigmoid_heads(loss):
    distiller = keras_ats.Distiller(head(3, "sigmoid"), head(3, "sigmoid"))
    kd_loss = BernoulliKD(unknown_label=-1) if loss is None else BernoulliKD()
    distiller.compile("sgd", loss, kd_loss=kd_loss, run_eagerly=True)
    several = np.tile([1, 1, 0], (16, 1))
    assert np.isfinite(distiller.fit(inputs(), several, verbose=0).history["loss"]).all()
    unknown = np.where(np.arange(3) == 2, -1, several)
    if loss is None:
        assert np.isfinite(distiller.fit(inputs(), unknown, verbose=0).history["loss"]).all()
    else:
        with pytest.raises(ValueError, match=r"within \[0, 1\].*y with -1.*unknown_label=-1"):
            distiller.fit(inputs(), unknown, verbose=0)
    with pytest.raises(ValueError, match=r"within \[0, 1\].*with 255"):
        distiller.fit(inputs(), 255 * several, verbose=0)
    with pytest.raises(ValueError, match=r"within \[0, 1\].*with nan"):
        distiller.fit(inputs(), np.nan * several, verbose=0)


def test_answers_of_one_unit():
    distiller = keras_ats.Distiller(head(1, "sigmoid"), head(1, "sigmoid"))
    distiller.compile("sgd", kd_loss=BernoulliKD(), run_eagerly=True)
    answers = np.arange(16)[:, None] % 2
    assert np.isfinite(distiller.fit(inputs(), answers, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match=r"within \[0, 1\].*with -1"):
        distiller.fit(inputs(), 2 * answers - 1, verbose=0)


@pytest.mark.parametrize("kd_loss", [RegressionKD(), LogitMSE(), GaussianKD()], ids=str)
def test_values_may_be_any_numbers(kd_loss):
    distiller = keras_ats.Distiller(head(2), head(2))
    distiller.compile("sgd", "mse", kd_loss=kd_loss, run_eagerly=True)
    values = np.linspace(-3, 300, 32).reshape(16, 2)
    assert np.isfinite(distiller.fit(inputs(), values, verbose=0).history["loss"]).all()
    with pytest.raises(TypeError, match=r"real numbers.*complex"):
        distiller.fit(inputs(), values * 1j, verbose=0)


def test_a_loss_of_the_users_reads_what_it_likes():
    def crossentropy(y_true, y_pred):
        return keras.ops.sum(y_true * y_pred, axis=-1)

    distiller = softmax_pair(crossentropy, TemperatureKD())
    assert np.isfinite(distiller.fit(inputs(), 100 * ROWS, verbose=0).history["loss"]).all()


def two_heads():
    x = keras.Input((models.FEATURES,))
    outputs = [layers.Dense(3, name="kind")(x), layers.Dense(2, name="size")(x)]
    return keras.Model(x, outputs)


@pytest.mark.parametrize("form", ["list", "dict"])
def test_each_output_is_looked_at_by_its_own_losses(form):
    distiller = keras_ats.Distiller(two_heads(), two_heads())
    distiller.compile(
        "sgd",
        {"kind": CROSSENTROPY(from_logits=True), "size": "mse"},
        kd_loss={"kind": TemperatureKD(), "size": RegressionKD()},
        run_eagerly=True,
    )
    kinds, sizes = with_first(2, "int32"), np.full((16, 2), 70.5)

    def labels(kinds, sizes):
        return [kinds, sizes] if form == "list" else {"kind": kinds, "size": sizes}

    assert np.isfinite(distiller.fit(inputs(), labels(kinds, sizes), verbose=0).history["loss"])
    with pytest.raises(ValueError, match=r"whole numbers.*y for the output 'kind' with 0.7"):
        distiller.fit(inputs(), labels(with_first(0.7), sizes), verbose=0)
    with pytest.raises(TypeError, match=r"real numbers.*y for the output 'size'"):
        distiller.evaluate(inputs(), labels(kinds, sizes.astype("U4")), verbose=0)


def test_an_evaluation_needs_labels_for_the_losses_that_it_runs_only():
    distiller = softmax_pair("mse", AsymmetricTemperatureKD())
    assert distiller.evaluate(inputs(), 100 * ROWS, verbose=0, return_dict=True)["loss"] > 0
    with pytest.raises(ValueError, match="divide by 100"):
        distiller.fit(inputs(), 100 * ROWS, verbose=0)


@pytest.mark.parametrize("call", ["fit", "train_on_batch", "evaluate", "test_on_batch"])
def test_no_labels_for_metrics(call):
    """A bare AttributeError before."""
    distiller = softmax_pair(None, TemperatureKD(), metrics=["accuracy"])
    with pytest.raises(ValueError, match=r"no labels for `metrics`.*distillation_metrics"):
        getattr(distiller, call)(inputs())
    with pytest.raises(ValueError, match="no labels for `metrics`"):
        distiller.fit(_WithoutLabels(), verbose=0)


class _WithoutLabels(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index >= 2:
            raise IndexError(index)
        return (inputs(),)


LONG = {"int64": 2**32 + 1, "uint32": 2**32 - 1, "float32": 0.7, "float64": np.nan}


@pytest.mark.parametrize("dtype", LONG)
def test_ids_of_a_pipeline_that_would_become_others(dtype):
    """Cast to int32 they lie within the range."""
    if keras.backend.backend() == "jax" and dtype == "int64":
        pytest.skip("JAX has no int64; it cuts the ids before anybody sees them")
    ids = keras.ops.convert_to_tensor(with_first(LONG[dtype], dtype))
    expected = np.arange(16) == 0
    invalid = keras.ops.convert_to_numpy(invalid_labels(ids, np.zeros((16, 3))))
    np.testing.assert_array_equal(invalid, expected)
