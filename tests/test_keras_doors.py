"""Pins what keras_ats relies on in Keras beyond its documented interface.

A failure here means that Keras has moved something: mend `keras_ats/_keras.py`, or the place that a
test names.
"""

import types

import h5py
import keras
import models
import numpy as np
import pytest
from keras import layers

from keras_ats import _keras
from keras_ats.views import twins

BACKEND = keras.backend.backend()


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


# --- keras_ats/_keras.py


def test_additional_losses():
    assert _keras.additional_losses(models.linear()) is None
    student = models.linear(kernel_regularizer=keras.regularizers.L2(0.5), bias_regularizer="l1")
    kernel, bias = student.get_weights()
    student.set_weights([kernel, bias + 1])
    total = to_numpy(_keras.additional_losses(student))
    expected = 0.5 * np.sum(np.square(kernel)) + 0.01 * models.CLASSES
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert total.shape == ()


def test_activity_loss():
    layer = layers.Dense(3, activity_regularizer="l2")
    outputs = layer(np.ones((4, 2), "float32"))
    expected = _keras.activity_loss(layer.activity_regularizer, outputs)
    np.testing.assert_allclose(to_numpy(layer.losses[0]), to_numpy(expected), rtol=1e-6)


def test_all_layers():
    inner = models.stochastic()
    outer = keras.Sequential([keras.Input((models.FEATURES,)), inner, layers.Dense(2)])
    found = _keras.all_layers(outer)
    for layer in (outer, inner, *inner.layers, outer.layers[-1]):
        assert sum(layer is other for other in found) == 1


def test_start_at_epoch():
    model = models.linear()
    model.compile("sgd", "mse")
    x, y = np.ones((4, models.FEATURES)), np.ones((4, models.CLASSES))
    _keras.start_at_epoch(model, 2)
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [2]
    _keras.start_at_epoch(model, None)
    assert model.fit(x, y, epochs=1, verbose=0).epoch == [0]


def test_symbolic_build():
    model = models.linear()
    model.compile("sgd", "mse", metrics=["mae"])
    before = model.get_weights()
    _keras.symbolic_build(
        model, (np.ones((4, models.FEATURES), "float32"), np.ones((4, models.CLASSES), "float32"))
    )
    assert len(model.metrics_variables) == 4  # total and count, of loss and metric
    assert float(to_numpy(model.metrics_variables[1])) == 0
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mark_as_called():
    # What Keras asks before it exports a model; training runs a view that shares its layers.
    model = models.linear()
    assert model._called is False
    _keras.mark_as_called(model)
    assert model._called is True
    other = models.linear()
    other(np.ones((2, models.FEATURES), "float32"))
    assert other._called is True


@pytest.mark.skipif(BACKEND != "jax", reason="only there a model is emptied while it trains")
def test_an_emptied_variable_asks_its_initializer(rng):
    # `ModelWithSafeState` says there where the value is.
    variable = keras.Variable(np.ones((2, 3), "float32"))
    assert variable._initializer is None
    value, variable._value = variable._value, None
    variable._initializer = lambda shape, dtype=None: 5.0 * keras.ops.ones(shape, dtype)
    np.testing.assert_array_equal(to_numpy(variable.value), np.full((2, 3), 5.0))
    variable._value = value
    np.testing.assert_array_equal(to_numpy(variable.value), np.ones((2, 3)))


@pytest.mark.skipif(BACKEND != "jax", reason="only there a model is emptied while it trains")
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_method_that_empties_a_model_hands_its_state_on_by_these_names(method, rng):
    seen = []

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(models.CLASSES)

        def call(self, inputs):
            return self.dense(inputs)

        def _purge_model_variables(self, **kinds):
            seen.append([kind for kind, is_given in kinds.items() if is_given])
            super()._purge_model_variables(**kinds)

        def _get_jax_state(self, *args, **kwargs):
            state = super()._get_jax_state(*args, **kwargs)
            seen.append(len(state))
            return state

    class Looks(keras.callbacks.Callback):
        def look(self, batch, logs=None):
            # `self.model` would give the variables their values back.
            seen.append(list(model._jax_state))
            assert model.dense.kernel._value is None

        on_train_batch_end = on_test_batch_end = on_predict_batch_end = look

    x, y = models.features(rng, 4)
    model = Model()
    model(x)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    arguments = (x,) if method == "predict" else (x, y)
    getattr(model, method)(*arguments, verbose=0, callbacks=[Looks()])
    kinds, count, names = seen[:3]
    expected = {
        "fit": ["trainable", "non_trainable", "optimizer", "metrics"],
        "evaluate": ["trainable", "non_trainable", "metrics"],
        "predict": ["trainable", "non_trainable"],
    }[method]
    assert kinds == [f"{kind}_variables" for kind in expected]
    assert count == len(expected)
    assert set(names) <= set(kinds)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras reads no batch there beforehand")
def test_symbolic_build_reads_one_batch(rng):
    shown = []

    class Model(_keras.ModelWithSafeState):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(models.CLASSES)

        def call(self, inputs):
            return self.dense(inputs)

        def look_at_batch(self, batch):
            shown.append(batch)

    x, y = models.features(rng)
    model = Model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(2):
        model.fit(models.batches(x, y, size=4), shuffle=False, verbose=0)
    assert len(shown) == 1
    for part, whole in zip(shown[0], (x, y), strict=True):
        np.testing.assert_array_equal(to_numpy(keras.ops.convert_to_tensor(part)), whole[:4])


def test_producer_and_call_arguments():
    inputs = keras.Input((None, 4))
    normalize, dense = layers.BatchNormalization(), layers.Dense(3)
    normalized = normalize(inputs, training=True)
    outputs = dense(normalized)
    second = dense(inputs)  # A shared layer has one node per call.
    node = _keras.producer(outputs)
    assert node.operation is dense
    assert [tensor is normalized for tensor in node.input_tensors] == [True]
    assert [tensor is outputs for tensor in node.outputs] == [True]
    assert _keras.producer(second).input_tensors[0] is inputs
    args, kwargs = _keras.call_arguments(_keras.producer(normalized))
    assert [tensor is inputs for tensor in args] == [True]
    assert kwargs == {"training": True}


def test_operations_have_these_names():
    # keras_ats/views/ tells them by name, and some by these attributes.
    inputs = keras.Input((4,))
    functions = {
        "Softmax": keras.ops.softmax,
        "LogSoftmax": keras.ops.log_softmax,
        "Sigmoid": keras.ops.sigmoid,
        "LogSigmoid": keras.ops.log_sigmoid,
        "Cast": lambda x: keras.ops.cast(x, "float16"),
        "Add": lambda x: x + x,
        "GetItem": lambda x: x[:, :2],
        "Transpose": lambda x: keras.ops.transpose(x, (1, 0)),
        "Reshape": lambda x: keras.ops.reshape(x, (-1, 2, 2)),
        "Mean": lambda x: keras.ops.mean(x, axis=0),
        "Resize": lambda x: keras.ops.image.resize(x[:, None, None], (2, 2)),
    }
    made = {
        name: _keras.producer(function(inputs)).operation for name, function in functions.items()
    }
    assert {type(operation).__name__ for operation in made.values()} == set(functions)
    assert made["Softmax"].axis == made["LogSoftmax"].axis == -1
    assert made["Transpose"].axes == (1, 0)
    assert made["Mean"].axis == [0]
    assert type(_keras.producer(layers.Softmax(axis=1)(inputs)).operation).__name__ == "Softmax"


def test_a_call_apart_leaves_no_node():
    inputs = keras.Input((4,))
    first, second = layers.Dense(3), layers.Add()
    hidden = first(inputs)
    outputs = _keras.call_apart(second, [hidden, hidden])
    assert first._outbound_nodes == []
    # Keras finds the way back all the same.
    model = keras.Model(inputs, outputs)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(to_numpy(model(x)), 2 * to_numpy(first(x)), rtol=1e-6)


def test_refilled_arguments():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    node = _keras.producer(layers.Concatenate(axis=1)(inputs))
    others = [keras.Input((4,)), keras.Input((4,))]
    tensors = {id(one): other for one, other in zip(inputs, others, strict=True)}
    (args,), kwargs = _keras.refilled_arguments(node, tensors)
    assert [one is other for one, other in zip(args, others, strict=True)] == [True, True]
    assert kwargs == {}


def test_a_twin_shares_all_but_what_is_changed():
    # keras_ats/views/twins.py: on torch, attributes reach into registries that both would share.
    layer = layers.Dense(2, layers.Softmax())
    layer.build((None, 4))
    activation, twin = layer.activation, twins.twin_of(layer, activation=None)
    assert twin.activation is None
    assert layer.activation is activation
    assert twin.kernel is layer.kernel
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(to_numpy(keras.ops.softmax(twin(x))), to_numpy(layer(x)), rtol=1e-5)
    assert layer.activation is activation


def test_get_keras_mask():
    outputs = models.tokens()(np.array([[3, 0, 2]]))
    np.testing.assert_array_equal(to_numpy(_keras.get_keras_mask(outputs)), [[True, False, True]])
    assert _keras.get_keras_mask(keras.ops.ones((2, 2))) is None


@pytest.mark.parametrize(
    ("reduction", "weights", "mask", "expected"),
    [
        ("sum_over_batch_size", None, None, 10 / 4),
        ("sum_over_batch_size", [0.0, 1.0, 2.0, 3.0], None, (2 + 6 + 12) / 4),
        ("sum_over_batch_size", None, [True, True, False, True], 7 / 3),
        ("sum_over_batch_size", [0.0, 1.0, 2.0, 3.0], [True, True, False, True], (2 + 12) / 3),
        ("sum_over_batch_size", None, [False] * 4, 0),
        ("mean_with_sample_weight", [0.0, 1.0, 2.0, 3.0], None, 20 / 6),
        ("sum", [0.0, 1.0, 2.0, 3.0], None, 20),
        ("none", [0.0, 1.0, 2.0, 3.0], [True, True, False, True], [0, 2, 0, 12]),
        (None, None, None, [1, 2, 3, 4]),
    ],
)
def test_reduce_weighted_values(reduction, weights, mask, expected):
    values = _keras.reduce_weighted_values(
        keras.ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0]),
        sample_weight=weights,
        mask=None if mask is None else keras.ops.convert_to_tensor(mask),
        reduction=reduction,
        dtype="float32",
    )
    np.testing.assert_allclose(to_numpy(values), expected, rtol=1e-6)


def test_unscale_loss_for_distribution():
    value = keras.ops.convert_to_tensor(3.0)
    assert to_numpy(_keras.unscale_loss_for_distribution(value)) == 3
    if BACKEND != "tensorflow":
        return
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    per_replica = strategy.run(lambda: _keras.unscale_loss_for_distribution(tf.constant(3.0)))
    assert [float(value) for value in strategy.experimental_local_results(per_replica)] == [6, 6]


# --- keras_ats/distiller


@pytest.mark.parametrize("step", ["train", "test"])
def test_a_step_calls_the_model_then_the_loss_then_the_metrics(rng, step):
    # Within a step `call` returns logits, which reach both hooks as `y_pred`.
    x, y = models.features(rng, 4)
    calls, trainings = [], []

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(models.CLASSES)

        def call(self, inputs):
            outputs = self.dense(inputs)
            calls.append(("call", outputs))
            return outputs

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            calls.append(("compute_loss", y_pred))
            trainings.append(training)
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            calls.append(("compute_metrics", y_pred))
            return super().compute_metrics(x, y, y_pred, sample_weight)

        def train_step(self, *args):
            assert len(args) == (2 if BACKEND == "jax" else 1)  # JAX hands in the state.
            return super().train_step(*args)

    model = Model()
    model(x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    calls.clear()
    getattr(model, f"{step}_on_batch")(x, y)
    assert trainings[-1] is (step == "train")
    names = [name for name, _ in calls]
    assert names[-3:] == ["call", "compute_loss", "compute_metrics"]
    assert len({id(tensor) for _, tensor in calls[-3:]}) == 1 or BACKEND == "jax"


def test_base_loss_is_data_plus_all_additional_losses(rng):
    # `Distiller.compute_loss` takes the second away from the sum to know the first.
    x, y = models.features(rng)
    student = models.linear(kernel_regularizer="l2")
    student.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    total = student.compute_loss(x, y, student(x))
    plain = models.cross_entropy(models.one_hot(y), models.outputs(student, x)).mean()
    regularisation = to_numpy(_keras.additional_losses(student))
    np.testing.assert_allclose(to_numpy(total), plain + regularisation, rtol=1e-5)


def test_nothing_is_written_within_a_stateless_scope():
    # keras_ats/teachers/live.py: batch statistics, seeds and added losses of a restless teacher.
    model = models.restless()
    before = models.numpy_weights(model)
    state = [(variable, variable.value) for variable in model.variables]
    with keras.StatelessScope(state_mapping=state):
        model(np.ones((4, models.FEATURES), "float32"))
    for actual, expected in zip(models.numpy_weights(model), before, strict=True):
        np.testing.assert_array_equal(actual, expected)
    model(np.ones((4, models.FEATURES), "float32"))
    assert any(
        not np.array_equal(*pair) for pair in zip(models.numpy_weights(model), before, strict=True)
    )


class Holder(keras.Model):
    """Reaches another model through a property only, as `Distiller` does its teacher."""

    def __init__(self, other, hidden):
        super().__init__()
        self.student = models.linear()
        self._untracked = types.SimpleNamespace(model=other)
        self._hidden = hidden
        self.built = True

    @property
    def teacher(self):
        if self._hidden:
            raise AttributeError
        return self._untracked.model


@pytest.mark.parametrize("hidden", [False, True])
def test_the_saver_finds_a_property_unless_it_raises(tmp_path, hidden):
    # `Distiller.teacher` goes into `.keras` files, and hides from weights files.
    path = tmp_path / "a.weights.h5"
    Holder(models.sequential(777), hidden).save_weights(path)
    shapes = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: shapes.append(getattr(item, "shape", ())))
    assert any(777 in shape for shape in shapes) is not hidden


def test_keras_saves_no_seeds():
    # Why `save_own_variables` of the pair does.
    model = models.stochastic()
    weights = {id(variable) for variable in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    assert [variable.shape for variable in seeds] == [(2,)]


def test_compile_config_has_these_parts():
    model = models.linear()
    model.compile("sgd", "mse", metrics=["accuracy"], run_eagerly=True)
    config = model.get_compile_config()
    assert {"optimizer", "loss", "metrics", "run_eagerly", "jit_compile"} <= set(config)
    assert models.linear().get_compile_config() in ({}, None)
