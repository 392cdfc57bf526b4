"""Point 5: any model is read at its logits, and is afterwards what it was before."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import models
import numpy as np
import pytest
from keras import layers

import keras_ats
from keras_ats._keras import activity_loss
from keras_ats.views.logits_view import logits_view

FEATURES, CLASSES, STEPS = models.FEATURES, models.CLASSES, 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, what it is fed, and its logits worked out by hand."""

    build: Callable
    logits: Callable = None
    feed: Callable = None
    log: bool = False
    tolerance: float = 1e-5  # of the logits
    output_tolerance: float = 1e-6

    def inputs(self, rng):
        return (self.feed or _vectors)(rng)

    def expected_logits(self, model, x):
        return (self.logits or _mlp)(model.get_weights(), x)

    def expected_outputs(self, logits):
        log_p = logits - logits.max(-1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
        return log_p if self.log else np.exp(log_p)


def _vectors(rng):
    return rng.normal(size=(6, FEATURES)).astype("float32")


def _series(rng):
    return rng.normal(size=(6, STEPS, FEATURES)).astype("float32")


def _images(rng):
    return rng.normal(size=(3, *models.IMAGE)).astype("float32")


def _pair_of_vectors(rng):
    return [_vectors(rng), _vectors(rng)]


def _named_vectors(rng):
    return {"left": _vectors(rng), "right": _vectors(rng)}


def _mlp(weights, x):
    """Works on any leading axes: vectors, series, pixels."""
    kernel, bias, head, head_bias = (weight.astype("float64") for weight in weights)
    kernel, head = (w.reshape(w.shape[-2:]) for w in (kernel, head))  # of a 1x1 convolution
    return np.tanh(x @ kernel + bias) @ head + head_bias


def _sum_mlp(weights, x):
    return _mlp(weights, x[0] + 2 * x[1])


def _swapped_sum_mlp(weights, x):
    return _mlp(weights, x[1] + 2 * x[0])


def _named_sum_mlp(weights, x):
    return _mlp(weights, x["left"] + 2 * x["right"])


def _hidden():
    return layers.Dense(7, "tanh")


def _sequential(*head, shape=(FEATURES,)):
    """A hidden layer, then `head`."""
    return lambda: keras.Sequential([keras.Input(shape), _hidden(), *(make() for make in head)])


def _functional(head, shape=(FEATURES,)):
    def build():
        inputs = keras.Input(shape)
        return keras.Model(inputs, head(_hidden()(inputs)))

    return build


def _dense(activation=None, **arguments):
    return lambda: layers.Dense(CLASSES, activation, **arguments)


def _softmax_of_backend():
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        return tensorflow.nn.softmax
    if backend == "jax":
        import jax

        return jax.nn.softmax
    import torch

    return torch.nn.Softmax(dim=-1)


def _mixed(policy):
    """Half precision within, float32 at the end: the usual recipe for mixed precision."""

    def build():
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(7, "tanh", dtype=policy),
                layers.Dense(CLASSES, dtype=policy),
                layers.Activation("softmax", dtype="float32"),
            ]
        )

    return build


def _sequential_in_functional(softmax=True):
    inputs = keras.Input((FEATURES,))
    inner = models.sequential(softmax=softmax)
    return keras.Model(inputs, inner(inputs))


def _functional_in_sequential(softmax=True):
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Identity(), models.functional(softmax=softmax)]
    )


def _two_levels(softmax=True):
    inputs = keras.Input((FEATURES,))
    inner = _functional_in_sequential(softmax=softmax)
    middle = keras.Model(inputs, layers.Dropout(0.5)(inner(inputs)))
    return keras.Sequential([keras.Input((FEATURES,)), middle, layers.Identity()])


def _softmax_outside(softmax=True):
    """The nested model ends in logits; the outer one does what it does with them."""
    inputs = keras.Input((FEATURES,))
    outputs = models.functional()(inputs)
    return keras.Model(inputs, layers.Softmax()(outputs) if softmax else outputs)


def _list_inputs(softmax=True, nested=True):
    two = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    hidden = _hidden()(two[0] + 2.0 * two[1])
    inner = keras.Model(two, layers.Dense(CLASSES, "softmax" if softmax else None)(hidden))
    if not nested:
        return inner
    outer = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    # Swapped on purpose: the view must keep the order of the call.
    return keras.Model(outer, inner([outer[1], outer[0]]))


def _dict_inputs(softmax=True, nested=True):
    named = {name: keras.Input((FEATURES,), name=name) for name in ("left", "right")}
    hidden = _hidden()(named["left"] + 2.0 * named["right"])
    inner = keras.Model(named, layers.Dense(CLASSES, "softmax" if softmax else None)(hidden))
    if not nested:
        return inner
    outer = {name: keras.Input((FEATURES,), name=name) for name in ("left", "right")}
    return keras.Model(outer, inner({"right": outer["right"], "left": outer["left"]}))


def _called_twice(softmax=True):
    """The first call of the head is the model's, the second one is not."""
    inputs = keras.Input((FEATURES,))
    hidden, head = _hidden(), layers.Dense(CLASSES, "softmax" if softmax else None)
    model = keras.Model(inputs, head(hidden(inputs)))
    head(hidden(keras.Input((FEATURES,))))
    return model


SOFTMAX = {
    "sequential": Case(_sequential(_dense("softmax"))),
    "functional": Case(_functional(lambda h: _dense("softmax")()(h))),
    "function_of_backend": Case(_sequential(lambda: _dense(_softmax_of_backend())())),
    "partial": Case(_sequential(_dense(functools.partial(keras.activations.softmax, axis=-1)))),
    "lambda_activation": Case(_sequential(_dense(lambda x: keras.ops.softmax(x)))),
    "softmax_layer_as_activation": Case(_sequential(lambda: _dense(layers.Softmax())())),
    "softmax_layer": Case(_sequential(_dense(), layers.Softmax)),
    "softmax_layer_axis_1": Case(_sequential(_dense(), lambda: layers.Softmax(axis=1))),
    "activation_layer": Case(_sequential(_dense(), lambda: layers.Activation("softmax"))),
    "float32_after_float16": Case(_mixed("mixed_float16"), tolerance=2e-3),
    "float32_after_bfloat16": Case(_mixed("mixed_bfloat16"), tolerance=2e-2),
    "ops_softmax": Case(_functional(lambda h: keras.ops.softmax(_dense()()(h)))),
    "activations_softmax": Case(_functional(lambda h: keras.activations.softmax(_dense()()(h)))),
    "log_softmax": Case(_sequential(_dense("log_softmax")), log=True),
    "log_softmax_layer": Case(
        _sequential(_dense(), lambda: layers.Activation("log_softmax")), log=True
    ),
    "ops_log_softmax": Case(_functional(lambda h: keras.ops.log_softmax(_dense()()(h))), log=True),
    "einsum_dense": Case(
        _sequential(
            lambda: layers.EinsumDense("ab,bc->ac", CLASSES, activation="softmax", bias_axes="c")
        )
    ),
    "conv_1x1": Case(
        _sequential(lambda: layers.Conv2D(CLASSES, 1, activation="softmax"), shape=models.IMAGE),
        feed=_images,
    ),
    "time_distributed": Case(
        _sequential(lambda: layers.TimeDistributed(_dense("softmax")()), shape=(STEPS, FEATURES)),
        feed=_series,
    ),
    "time_distributed_softmax": Case(
        _sequential(
            _dense(),
            lambda: layers.TimeDistributed(layers.Activation("softmax")),
            shape=(STEPS, FEATURES),
        ),
        feed=_series,
    ),
    "then_dropout": Case(_sequential(_dense("softmax"), lambda: layers.Dropout(0.5))),
    "then_identity": Case(_sequential(_dense(), layers.Softmax, layers.Identity)),
    "then_linear": Case(
        _sequential(_dense("softmax"), lambda: layers.Activation("linear"), layers.Identity)
    ),
    "then_float32": Case(
        _sequential(
            _dense("softmax", dtype="mixed_bfloat16"),
            lambda: layers.Activation("linear", dtype="float32"),
        ),
        tolerance=2e-2,
        output_tolerance=2e-2,
    ),
    "sequential_in_functional": Case(_sequential_in_functional),
    "functional_in_sequential": Case(_functional_in_sequential),
    "two_levels": Case(_two_levels),
    "softmax_outside": Case(_softmax_outside),
    "list_inputs": Case(functools.partial(_list_inputs, nested=False), _sum_mlp, _pair_of_vectors),
    "dict_inputs": Case(
        functools.partial(_dict_inputs, nested=False), _named_sum_mlp, _named_vectors
    ),
    "nested_list_inputs": Case(_list_inputs, _swapped_sum_mlp, _pair_of_vectors),
    "nested_dict_inputs": Case(_dict_inputs, _named_sum_mlp, _named_vectors),
    "called_twice": Case(_called_twice),
}

LOGITS = {
    "sequential": _sequential(_dense()),
    "functional": _functional(lambda h: _dense()()(h)),
    "linear_by_name": _sequential(_dense("linear")),
    "activation_layer": _sequential(_dense(), lambda: layers.Activation("linear", dtype="float32")),
    "conv_1x1": _sequential(lambda: layers.Conv2D(CLASSES, 1), shape=models.IMAGE),
    "time_distributed": _sequential(
        lambda: layers.TimeDistributed(_dense()()), shape=(STEPS, FEATURES)
    ),
    "then_dropout": _sequential(_dense(), lambda: layers.Dropout(0.5), layers.Identity),
    "sequential_in_functional": lambda: _sequential_in_functional(softmax=False),
    "functional_in_sequential": lambda: _functional_in_sequential(softmax=False),
    "two_levels": lambda: _two_levels(softmax=False),
    "softmax_inside_only": _sequential(lambda: layers.Dense(4, "softmax"), _dense()),
    "nested_list_inputs": lambda: _list_inputs(softmax=False),
    "nested_dict_inputs": lambda: _dict_inputs(softmax=False),
    "called_twice": lambda: _called_twice(softmax=False),
}


def _numpy(tensors):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


def _run(view, x):
    """Outputs of the view's model, as logits and as what the user's model would return."""
    raw = view.model(x, training=False)
    return _numpy(view.to_logits(raw)), _numpy(view.to_outputs(raw))


def _state(model):
    """All that a view could disturb, at any depth."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except (TypeError, UserWarning):  # A partial or a lambda; Keras does not know how.
        config = None
    return {
        "config": config,
        "layers": [
            (
                id(layer),
                layer.name,
                id(getattr(layer, "activation", None)),
                layer.activity_regularizer,
                layer.trainable,
                len(layer._inbound_nodes),
                len(layer.weights),
            )
            for layer in model._flatten_layers()
        ],
    }


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_endings_are_read_at_their_logits(name, rng):
    case = SOFTMAX[name]
    model, x = case.build(), case.inputs(rng)
    logits, outputs = _run(logits_view(model, None, "teacher"), x)
    expected = case.expected_logits(model, x)
    np.testing.assert_allclose(logits, expected, atol=case.tolerance)
    # Half-precision logits are what they are; what follows from them is exact.
    predictions = _numpy(model(x))
    np.testing.assert_allclose(
        case.expected_outputs(np.float64(logits)), predictions, atol=case.output_tolerance
    )
    np.testing.assert_allclose(outputs, predictions, atol=1e-6)
    assert outputs.dtype == predictions.dtype


@pytest.mark.parametrize("name", SOFTMAX)
def test_weights_are_shared(name, rng):
    case = SOFTMAX[name]
    model, x = case.build(), case.inputs(rng)
    view = logits_view(model, None, "student")
    assert {id(v) for v in view.model.weights} == {id(v) for v in model.weights}
    before, _ = _run(view, x)
    model.set_weights([2 * weight for weight in model.get_weights()])
    after, outputs = _run(view, x)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(outputs, _numpy(model(x)), atol=1e-6)


@pytest.mark.parametrize("name", SOFTMAX)
def test_the_users_model_is_untouched(name, rng, tmp_path):
    case = SOFTMAX[name]
    model, x = case.build(), case.inputs(rng)
    model.layers[0].trainable = False
    weights, predictions, state = model.get_weights(), _numpy(model(x)), _state(model)

    _run(logits_view(model, None, "teacher"), x)

    assert _state(model) == state
    np.testing.assert_equal(model.get_weights(), weights)
    np.testing.assert_array_equal(_numpy(model(x)), predictions)
    if name in ("function_of_backend", "partial", "lambda_activation"):
        return  # Keras itself does not load these.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(_numpy(loaded(x)), predictions, atol=1e-6)


@pytest.mark.parametrize("name", LOGITS)
def test_logits_endings_are_left_alone(name):
    model = LOGITS[name]()
    view = logits_view(model, None, "teacher")
    assert view.model is model
    outputs = object()
    assert view.to_logits(outputs) is outputs
    assert view.to_outputs(outputs) is outputs


def test_several_outputs_are_read_one_by_one(rng):
    inputs = keras.Input((FEATURES,))
    hidden = _hidden()(inputs)
    heads = {"coarse": layers.Dense(2)(hidden), "fine": layers.Dense(CLASSES, "softmax")(hidden)}
    model, x = keras.Model(inputs, heads), _vectors(rng)
    view = logits_view(model, None, "student")
    logits, outputs = _run(view, x)
    kernel, bias, *_ = model.get_weights()
    fine = [w for w in model.get_weights() if w.shape[-1] == CLASSES]
    np.testing.assert_allclose(
        logits["fine"], np.tanh(x @ kernel + bias) @ fine[0] + fine[1], atol=1e-5
    )
    predictions = model.predict(x, verbose=0)
    for head in ("coarse", "fine"):
        np.testing.assert_allclose(outputs[head], predictions[head], atol=1e-6)


@pytest.mark.parametrize("shared", ["layer", "model"])
def test_outputs_may_share_their_ending(shared, rng):
    twin = layers.Dense(CLASSES, "softmax") if shared == "layer" else models.linear(softmax=True)
    inputs = [keras.Input((FEATURES,)), keras.Input((FEATURES,))]
    model = keras.Model(inputs, [twin(tensor) for tensor in inputs])
    x = _pair_of_vectors(rng)
    logits, outputs = _run(logits_view(model, None, "student"), x)
    kernel, bias = model.get_weights()
    for index in (0, 1):
        np.testing.assert_allclose(logits[index], x[index] @ kernel + bias, atol=1e-5)
        np.testing.assert_allclose(outputs[index], _numpy(model(x)[index]), atol=1e-6)


@pytest.mark.parametrize("ending", ["softmax", "activation", "time_distributed"])
def test_keras_masks_survive(ending, rng):
    heads = {
        "softmax": [layers.Dense(CLASSES, "softmax")],
        "activation": [layers.Dense(CLASSES), layers.Activation("softmax")],
        "time_distributed": [layers.TimeDistributed(layers.Dense(CLASSES, "softmax"))],
    }
    model = keras.Sequential(
        [
            keras.Input((models.TOKENS,), dtype="int32"),
            layers.Embedding(models.VOCABULARY, 4, mask_zero=True),
            *heads[ending],
        ]
    )
    x, _ = models.sentences(rng)
    view = logits_view(model, None, "student")
    logits = view.model(x)
    # On TensorFlow and torch `x` is made a tensor by Keras; the mask compares it with 0.
    for tensor in (model(x), logits, view.to_outputs(logits)):
        np.testing.assert_array_equal(_numpy(tensor._keras_mask), x != 0)


def test_names_of_the_view_do_not_clash(rng):
    model = _sequential(
        _dense(name="class_logits"), lambda: layers.Activation("softmax", name="class")
    )()
    x = _vectors(rng)
    logits, _ = _run(logits_view(model, None, "teacher"), x)
    np.testing.assert_allclose(logits, _mlp(model.get_weights(), x), atol=1e-5)


def test_a_removed_activation_is_none():
    model = models.linear(softmax=True)
    model.layers[-1].activation = None  # A common way to get at the logits.
    assert logits_view(model, None, "teacher").model is model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_activity_regularizer_in_half_precision(policy, rng):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(CLASSES, "softmax", activity_regularizer="l2", dtype=policy),
        ]
    )
    x = _vectors(rng)
    probabilities = _numpy(model(x)).astype("float64")
    expected = _numpy(activity_loss(keras.regularizers.L2(0.01), probabilities))
    assert _numpy(keras.ops.cast(model.losses[0], "float32")) == pytest.approx(expected, rel=0.02)
    logits_view(model, None, "teacher").model(x)
    (loss,) = model.losses
    assert _numpy(keras.ops.cast(loss, "float32")) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("wrapper", ["dense", "time_distributed", "activation", "softmax"])
def test_activity_regularizer_counts_on_probabilities(wrapper, rng):
    heads = {
        "dense": [layers.Dense(CLASSES, "softmax", activity_regularizer="l2")],
        "time_distributed": [
            layers.TimeDistributed(layers.Dense(CLASSES, "softmax", activity_regularizer="l2"))
        ],
        "activation": [
            layers.Dense(CLASSES),
            layers.Activation("softmax", activity_regularizer="l2"),
        ],
        "softmax": [layers.Dense(CLASSES), layers.Softmax(activity_regularizer="l2")],
    }
    series = wrapper == "time_distributed"
    x = (_series if series else _vectors)(rng)
    student = keras.Sequential([keras.Input(x.shape[1:]), _hidden(), *heads[wrapper]])
    teacher = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(CLASSES)])
    y = rng.integers(0, CLASSES, x.shape[:-1])

    student.compile("sgd", "sparse_categorical_crossentropy")
    alone = student.evaluate(x, y, verbose=0)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.TemperatureKD(2.0))
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(alone, abs=1e-5)
    plain = keras.losses.sparse_categorical_crossentropy(y, student(x))
    assert logs["student_loss"] == pytest.approx(_numpy(plain).mean(), abs=1e-5)
    assert (alone - logs["student_loss"] > 1e-4) or series, "the regulariser adds something"


# ---------------------------------------------------------------- endings that are not known


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class Gate(layers.Layer):
    """Has an activation, but does not end in it."""

    def __init__(self, activation="softmax", **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def call(self, inputs):
        return inputs * self.activation(inputs)


def softmax(x):
    """Called softmax, and is not."""
    return keras.ops.sigmoid(x)


def _add(x):
    return layers.Add()([_dense()()(x), _dense()()(x)])


UNKNOWN = {
    "sigmoid": (_sequential(_dense("sigmoid")), "Dense .* with activation 'sigmoid'"),
    "relu": (_sequential(_dense("relu")), "Dense .* with activation 'relu'"),
    "tanh": (_sequential(_dense("tanh")), "Dense .* with activation 'tanh'"),
    "relu_layer": (_sequential(_dense(), layers.ReLU), "ReLU"),
    "sigmoid_layer": (
        _sequential(_dense(), lambda: layers.Activation("sigmoid")),
        "Activation .* with activation 'sigmoid'",
    ),
    "called_softmax": (_sequential(_dense(softmax)), "Dense .* with activation 'softmax'"),
    "other_axis_layer": (
        _sequential(_dense(), lambda: layers.Softmax(axis=1), shape=(STEPS, FEATURES)),
        "Softmax",
    ),
    "other_axis_operation": (
        _functional(lambda h: keras.ops.softmax(_dense()()(h), axis=1), shape=(STEPS, FEATURES)),
        "Softmax",
    ),
    "other_axis_activation": (
        _sequential(
            _dense(functools.partial(keras.activations.softmax, axis=1)), shape=(STEPS, FEATURES)
        ),
        "Dense",
    ),
    "pooling": (
        _sequential(_dense(), layers.GlobalAveragePooling1D, shape=(STEPS, FEATURES)),
        "GlobalAveragePooling1D",
    ),
    "lambda": (_sequential(_dense(), lambda: layers.Lambda(lambda x: x / 2)), "Lambda"),
    "add": (_functional(_add), "Add"),
    "recurrent": (
        _sequential(
            lambda: layers.SimpleRNN(CLASSES, activation="softmax"), shape=(STEPS, FEATURES)
        ),
        "SimpleRNN",
    ),
    "own_layer": (_sequential(_dense(), Gate), "Gate"),
    "own_layer_linear": (_sequential(_dense(), lambda: Gate("linear")), "Gate"),
    "regularized_identity": (
        _sequential(_dense("softmax"), lambda: layers.Identity(activity_regularizer="l2")),
        "Identity",
    ),
    "nested": (
        lambda: keras.Sequential(
            [keras.Input((FEATURES,)), _sequential(_dense("sigmoid"))(), layers.Identity()]
        ),
        "Dense .* with activation 'sigmoid'",
    ),
    "subclassed_inside": (
        lambda: keras.Sequential([keras.Input((FEATURES,)), models.Subclassed(name="inside")]),
        "subclassed model 'inside'",
    ),
}


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_endings_are_errors(name, role):
    build, layer = UNKNOWN[name]
    model = build()
    message = (
        rf"The {role} '{model.name}' ends in (the )?{layer}.*Expected.*logits.*softmax"
        rf".*{role}_from_logits=True"
    )
    state = _state(model)
    with pytest.raises(ValueError, match=message):
        logits_view(model, None, role)
    assert _state(model) == state
    # The user's word counts.
    assert logits_view(model, True, role).model is model


def test_the_error_reaches_the_user_of_distiller():
    good, bad = models.linear(), _sequential(_dense("sigmoid"))()
    with pytest.raises(ValueError, match="teacher_from_logits=True"):
        keras_ats.Distiller(bad, good)
    with pytest.raises(ValueError, match="student_from_logits=True"):
        keras_ats.Distiller(good, bad)
    keras_ats.Distiller(bad, models.linear(), teacher_from_logits=True)
    keras_ats.Distiller(models.linear(), bad, student_from_logits=True)


def test_probabilities_at_a_linear_end_are_doubted():
    with pytest.raises(ValueError, match=r"teacher.*teacher_from_logits=False"):
        logits_view(models.linear(), False, "teacher")


def test_said_probabilities_of_a_readable_model_are_read_at_the_logits(rng):
    model, x = models.sequential(softmax=True), _vectors(rng)
    logits, _ = _run(logits_view(model, False, "teacher"), x)
    np.testing.assert_allclose(logits, _mlp(model.get_weights(), x), atol=1e-5)


# ---------------------------------------------------------------- subclassed models


def test_a_subclassed_model_must_say():
    for role in ("teacher", "student"):
        with pytest.raises(ValueError, match=rf"{role} .*subclassed.*{role}_from_logits=True"):
            logits_view(models.subclassed(), None, role)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_subclassed_model_may_say_so_itself(softmax, rng):
    model, x = models.subclassed(softmax=softmax), _vectors(rng)
    model.returns_logits = not softmax
    said = _run(logits_view(model, not softmax, "teacher"), x)
    np.testing.assert_array_equal(_run(logits_view(model, None, "teacher"), x), said)
    # The argument is nearer than the class.
    assert logits_view(model, True, "teacher").to_logits("as they are") == "as they are"


def test_a_subclassed_model_of_logits():
    model = models.subclassed()
    view = logits_view(model, True, "teacher")
    assert view.model is model
    outputs = object()
    assert view.to_logits(outputs) is outputs
    assert view.to_outputs(outputs) is outputs


def test_a_subclassed_model_of_probabilities(rng):
    model, x = models.subclassed(softmax=True), _vectors(rng)
    logits, outputs = _run(logits_view(model, False, "teacher"), x)
    log_p = np.log(model.predict(x, verbose=0).astype("float64"))
    np.testing.assert_allclose(logits, log_p - log_p.mean(-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("softmax", [False, True])
def test_subclassed_models_train(softmax, rng):
    x, y = models.features(rng)
    teacher, student = models.subclassed(16, softmax), models.subclassed(8, softmax)
    distiller = keras_ats.Distiller(
        teacher, student, teacher_from_logits=not softmax, student_from_logits=not softmax
    )
    predictions = student.predict(x, verbose=0)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), predictions, atol=1e-6)
    loss = "auto" if not softmax else "sparse_categorical_crossentropy"
    distiller.compile("sgd", loss, kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


# ---------------------------------------------------------------- through Distiller


@pytest.mark.parametrize(
    "name", ["sequential", "softmax_layer", "activation_layer", "two_levels", "nested_dict_inputs"]
)
def test_the_distilled_student_predicts_what_it_did(name, rng):
    case = SOFTMAX[name]
    teacher, student, x = case.build(), case.build(), case.inputs(rng)
    y = rng.integers(0, CLASSES, 6)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(),
        metrics=["accuracy"],
    )
    before, states = student.predict(x, verbose=0), (_state(teacher), _state(student))
    np.testing.assert_allclose(distiller.predict(x, verbose=0), before, atol=1e-6)
    distiller.fit(x, y, verbose=0)
    assert (_state(teacher), _state(student)) == states
    after = student.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), after, atol=1e-6)
    np.testing.assert_allclose(_numpy(distiller(x)), after, atol=1e-6)


@pytest.mark.parametrize("loss", ["auto", "sparse_categorical_crossentropy"])
def test_the_users_loss_and_metrics_see_what_the_student_returns(loss, rng):
    x, y = models.features(rng)
    student = models.sequential(softmax=True)
    distiller = keras_ats.Distiller(models.sequential(softmax=True), student)
    distiller.compile(
        "sgd",
        loss,
        kd_loss=keras_ats.losses.TemperatureKD(),
        metrics=["accuracy", "sparse_categorical_crossentropy"],
    )
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    student.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    alone = student.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert logs["accuracy"] == pytest.approx(alone["accuracy"])
    assert logs["sparse_categorical_crossentropy"] == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_student_without_input_shape_is_built_by_fit(softmax, rng):
    x, y = models.features(rng)
    student = keras.Sequential(
        [layers.Dense(8, "tanh"), layers.Dense(CLASSES, "softmax" if softmax else None)]
    )
    distiller = keras_ats.Distiller(models.sequential(), student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    predictions = student.predict(x, verbose=0)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), predictions, atol=1e-6)
    if softmax:
        np.testing.assert_allclose(predictions.sum(-1), 1, atol=1e-5)


def test_a_student_without_input_shape_is_checked_when_built(rng):
    x, y = models.features(rng)
    student = keras.Sequential([layers.Dense(8), layers.Dense(CLASSES + 1)])
    distiller = keras_ats.Distiller(models.sequential(), student)
    distiller.compile("sgd", kd_loss=keras_ats.losses.AsymmetricTemperatureKD())
    with pytest.raises(ValueError, match="4 classes and a teacher with 3"):
        distiller.fit(x, y, verbose=0)
