"""A model that is viewed stays as it is, whatever becomes of it later and whoever else runs it."""

import threading

import keras
import models
import numpy as np
import pytest
import view_cases
from backends import cases_in_turn
from keras import layers
from keras.src.dtype_policies.dtype_policy import QUANTIZATION_MODES
from view_cases import CLASSES, FEATURES, READ, numpy, run, state_of

import keras_ats
from keras_ats._keras import activity_loss
from keras_ats.views import View


@cases_in_turn("each ending is read by the same copy of the graph")
@pytest.mark.parametrize("name", READ)
def test_the_users_model_is_untouched(name, rng, tmp_path):
    case = READ[name]
    model, x = case.build(), case.inputs(rng)
    model.layers[0].trainable = False
    weights, predictions, state = model.get_weights(), numpy(model(x)), state_of(model)

    run(View(model, None, "teacher"), x)

    assert state_of(model) == state
    np.testing.assert_equal(model.get_weights(), weights)
    np.testing.assert_array_equal(numpy(model(x)), predictions)
    if name not in ("softmax_softmax_layer", "softmax_two_levels", "moved_reshape"):
        return  # A few of them through a file, which takes its time.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(x)), predictions, atol=1e-6)


@pytest.mark.parametrize("name", ["sequential", "softmax_outside", "two_levels"])
def test_many_distillers_leave_no_nodes_in_the_graph(name):
    teacher = view_cases.SOFTMAX[name].build()
    before = state_of(teacher)
    for _ in range(3):
        keras_ats.Distiller(teacher, models.linear())
    assert state_of(teacher) == before


def test_views_do_not_count_in_the_names_of_later_layers():
    def number():
        return [
            int(layer.name.rsplit("_", 1)[1])
            for layer in (layers.Activation("relu"), layers.Dense(1))
        ]

    models.linear(), layers.Activation("relu"), layers.Dense(1)
    before, model = number(), models.functional(softmax=True)
    taken = number()
    View(model, None, "student", features=(model.layers[1].name,))
    assert number() == [last + 1 for last in taken]
    assert taken[0] == before[0] + 1


HEADS = {
    "dense": lambda: layers.Dense(CLASSES, "softmax"),
    "dense_sigmoid": lambda: layers.Dense(CLASSES, "sigmoid"),
    "einsum": lambda: layers.EinsumDense("ab,bc->ac", CLASSES, activation="softmax", bias_axes="c"),
}


@cases_in_turn("every head is read in the same way, and each mode by the same kernels")
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
@pytest.mark.parametrize(
    ("head", "mode", "when"),
    [
        ("dense", "int8", "before"),
        ("dense", "int8", "after"),
        ("dense", "int4", "after"),
        ("dense", "float8", "before"),
        ("dense", "float8", "after"),
        ("dense_sigmoid", "int8", "after"),
        ("einsum", "int8", "before"),
        ("einsum", "int4", "after"),
    ],
)
def test_quantised_endings(head, mode, when, rng):
    if mode not in QUANTIZATION_MODES:
        pytest.skip(f"Keras {keras.__version__} has no {mode}")
    model = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(8, "tanh"), HEADS[head]()])
    x = view_cases.vectors(rng)
    exact, _ = run(View(model, None, "teacher"), x)
    view = View(model, None, "teacher")
    model.quantize(mode)
    if when == "before":
        view = View(model, None, "teacher")
    logits, outputs = run(view, x)
    ending = view.endings[model.name]
    np.testing.assert_allclose(view_cases.activated(logits, ending), numpy(model(x)), atol=1e-5)
    np.testing.assert_allclose(outputs, numpy(model(x)), atol=1e-5)
    # Not shifted either, which a softmax would not show.
    np.testing.assert_allclose(logits, exact, atol=0.5 if mode == "int4" else 0.15)
    assert model.layers[-1].activation is getattr(keras.activations, ending)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_endings_with_lora(when, wrapped, rng):
    head = layers.Dense(CLASSES, "softmax")
    model = keras.Sequential(
        [
            keras.Input((4, FEATURES) if wrapped else (FEATURES,)),
            layers.TimeDistributed(head) if wrapped else head,
        ]
    )
    view = View(model, None, "student")
    head.enable_lora(2)
    head.lora_kernel_b.assign(rng.normal(size=(2, CLASSES)))
    if when == "before":
        view = View(model, None, "student")
    x = (view_cases.series if wrapped else view_cases.vectors)(rng)
    kernel, *factors = (numpy(w) for w in (head._kernel, head.lora_kernel_a, head.lora_kernel_b))
    logits, outputs = run(view, x)
    np.testing.assert_allclose(logits, x @ (kernel + factors[0] @ factors[1]), atol=1e-5)
    np.testing.assert_allclose(outputs, numpy(model(x)), atol=1e-6)
    assert {id(v) for v in view.model.weights} == {id(v) for v in model.weights}


CONVOLUTIONS = {
    "conv": lambda: layers.Conv2D(CLASSES, 3, activation="softmax"),
    "transpose": lambda: layers.Conv2DTranspose(CLASSES, 2, activation="softmax"),
    "separable": lambda: layers.SeparableConv2D(CLASSES, 2, activation="softmax"),
    "depthwise": lambda: layers.DepthwiseConv2D(2, activation="softmax"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, rng):
    head = CONVOLUTIONS[name]()
    model = keras.Sequential([keras.Input(models.IMAGE), head])
    x = view_cases.images(rng)
    logits, outputs = run(View(model, None, "teacher"), x)
    # The same layer without an activation, as Keras makes it.
    bare = type(head).from_config({**head.get_config(), "activation": "linear"})
    bare.build((None, *models.IMAGE))
    bare.set_weights(head.get_weights())
    np.testing.assert_allclose(logits, numpy(bare(x)), atol=1e-5)
    np.testing.assert_allclose(outputs, numpy(model(x)), atol=1e-6)


def _in_threads(*functions):
    """Runs all at once and returns what they raised."""
    raised = []

    def guarded(function):
        try:
            function()
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("ending", ["activation", "regularized", "layer_as_activation"])
def test_a_model_is_itself_while_others_view_it(ending, rng):
    heads = {
        "activation": lambda: layers.Dense(CLASSES, "softmax"),
        "regularized": lambda: layers.Dense(CLASSES, "softmax", activity_regularizer="l2"),
        "layer_as_activation": lambda: layers.Dense(CLASSES, layers.Softmax()),
    }
    model = keras.Sequential([keras.Input((FEATURES,)), heads[ending]()])
    x, activation = view_cases.vectors(rng), model.layers[-1].activation
    predictions = numpy(model(x))
    views = [View(model, None, "teacher"), View(model, None, "teacher")]
    logits = numpy(views[0](x).logits)

    def look(view):
        for _ in range(25):
            np.testing.assert_allclose(numpy(view(x).logits), logits, atol=1e-5)

    def predict():
        for _ in range(50):
            np.testing.assert_allclose(numpy(model(x)), predictions, atol=1e-5)

    assert _in_threads(predict, *(lambda view=view: look(view) for view in views)) == []
    assert model.layers[-1].activation is activation


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="fit empties a model on JAX")
def test_two_distillers_share_a_teacher_at_the_same_time(rng):
    x, y = models.features(rng, 64)
    teacher = models.sequential(softmax=True)
    activation, predictions = teacher.layers[-1].activation, numpy(teacher(x))
    distillers = [keras_ats.Distiller(teacher, models.linear(softmax=True)) for _ in range(2)]
    for distiller in distillers:
        distiller.compile("sgd", kd_loss=keras_ats.losses.TemperatureKD(), jit_compile=False)

    def predict():
        for _ in range(100):
            np.testing.assert_allclose(numpy(teacher(x)), predictions, atol=1e-5)

    fits = [lambda d=d: d.fit(x, y, batch_size=4, epochs=2, verbose=0) for d in distillers]
    assert _in_threads(predict, *fits) == []
    assert teacher.layers[-1].activation is activation
    np.testing.assert_array_equal(numpy(teacher(x)), predictions)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_activity_regularizer_in_half_precision(policy, rng):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(CLASSES, "softmax", activity_regularizer="l2", dtype=policy),
        ]
    )
    x = view_cases.vectors(rng)
    probabilities = numpy(model(x)).astype("float32")
    expected = numpy(activity_loss(keras.regularizers.L2(0.01), probabilities))
    assert numpy(keras.ops.cast(model.losses[0], "float32")) == pytest.approx(expected, rel=0.02)
    View(model, None, "teacher").model(x)
    (loss,) = model.losses
    assert numpy(keras.ops.cast(loss, "float32")) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    "wrapper", ["dense", "sigmoid", "time_distributed", "activation", "softmax"]
)
def test_activity_regularizer_counts_on_probabilities(wrapper, rng):
    heads = {
        "dense": [layers.Dense(CLASSES, "softmax", activity_regularizer="l2")],
        "sigmoid": [layers.Dense(CLASSES, "sigmoid", activity_regularizer="l2")],
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
    x = (view_cases.series if series else view_cases.vectors)(rng)
    student = keras.Sequential(
        [keras.Input(x.shape[1:]), view_cases.hidden_layer(), *heads[wrapper]]
    )
    student(x)
    alone = [numpy(loss) for loss in student.losses]
    view = View(student, None, "student")
    view(x)
    np.testing.assert_allclose([numpy(loss) for loss in student.losses], alone, atol=1e-6)
    assert alone or series, "the regulariser adds something"
