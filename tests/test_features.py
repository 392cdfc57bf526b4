"""Losses on inner layers: what layers are found, what is compared, and what is refused."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from keras import layers, ops

import keras_ats
from keras_ats import features
from keras_ats.losses import AsymmetricTemperatureKD, ScaleDecoupledKD

pytestmark = cases_in_turn("what does not fit is refused before a backend sees a tensor")

to_numpy = ops.convert_to_numpy
SIZE = (8, 8, 3)


def network(width, name=None, classes=models.CLASSES):
    """A small CNN, its first stage within a nested model."""
    inputs = keras.Input(SIZE)
    trunk = keras.Sequential(
        [
            keras.Input(SIZE),
            layers.Conv2D(width, 3, strides=2, padding="same", name="stage1"),
            layers.ReLU(name="active"),
        ],
        name="trunk",
    )
    hidden = layers.Conv2D(2 * width, 3, strides=2, padding="same", name="stage2")(trunk(inputs))
    pooled = layers.GlobalAveragePooling2D(name="pool")(hidden)
    return keras.Model(inputs, layers.Dense(classes, name="head")(pooled), name=name)


@keras.saving.register_keras_serializable(package="keras_ats_tests")
class WithLayers(keras.Model):
    """A subclassed model that returns its inner layers beside its logits."""

    returns_logits = True

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.hidden = layers.Dense(width, "tanh")
        self.head = layers.Dense(models.CLASSES)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((*input_shape[:-1], self.width))

    def call(self, inputs):
        hidden = self.hidden(inputs)
        return {"logits": self.head(hidden), "hidden": hidden}

    def get_config(self):
        return {"width": self.width, "name": self.name}


def subclassed(width, name=None):
    model = WithLayers(width, name=name)
    model.build((None, models.FEATURES))
    return model


def batch(rng, samples=8):
    x = rng.normal(size=(samples, *SIZE)).astype("float32")
    return x, rng.integers(0, models.CLASSES, samples)


def test_layers_of_nested_models_are_read_in_the_one_forward_pass(rng):
    x, y = batch(rng)
    teacher, student = network(6, "teacher"), network(4, "student")
    loss = features.Hint(["stage1", "trunk/active", "stage2"], ["stage1", "active", "stage2"])
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=loss, kd_weight=1.0, student_weight=0.0)
    expected = 0.0
    for index, name in enumerate(["stage1", "active", "stage2"]):
        said = []
        for model in (student, teacher):
            inner = model.get_layer("trunk")
            values = inner.get_layer("stage1")(x)
            values = inner.get_layer("active")(values) if name != "stage1" else values
            said.append(model.get_layer("stage2")(values) if name == "stage2" else values)
        projected = loss.projectors[index](said[0])
        expected += np.square(to_numpy(projected) - to_numpy(said[1])).mean()
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=1e-5)
    stage1 = student.get_layer("trunk").get_layer("stage1")
    calls, call = [], stage1.call
    stage1.call = lambda *args, **kwargs: (calls.append(1), call(*args, **kwargs))[1]
    keras_ats.views.View(student, True, "student", features=("stage1", "stage2"))(x)
    assert len(calls) == 1
    # The models are as they were: each layer has one output, that of its own graph.
    assert stage1.output.shape == (None, 4, 4, 4)


def test_layers_of_a_nested_model_that_ends_in_softmax(rng):
    inner = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="hidden"), layers.Dense(3, "softmax")],
        name="inner",
    )
    inputs = keras.Input((5,))
    student = keras.Model(inputs, inner(inputs))
    teacher = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, name="hidden"), layers.Dense(3, "softmax")]
    )
    loss = features.Hint("hidden", "hidden")
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=loss, kd_weight=1.0, student_weight=1.0)
    x, y = models.features(rng, 8)
    expected = loss(inner.layers[0](x), teacher.layers[0](x))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["kd_loss"], to_numpy(expected), rtol=1e-5)


def test_subclassed_models_return_their_layers(rng, tmp_path):
    x, y = models.features(rng, 16)
    teacher, student = subclassed(6), subclassed(4)
    loss = features.Hint("hidden", "hidden")
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.1),
        kd_loss=[AsymmetricTemperatureKD(4, 2), loss],
        kd_weight=[0.5, 1.0],
        student_weight=0.5,
        metrics=["accuracy"],
    )
    history = distiller.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history
    assert history["hint"][-1] < history["hint"][0]
    assert 0 <= history["accuracy"][-1] <= 1
    assert set(distiller.predict(x, verbose=0)) == {"logits", "hidden"}
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for one, other in zip(student.get_weights(), loaded.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@on_one_backend("the layers are Keras's")
def test_networks_of_the_package_have_names_to_choose():
    """What the documentation writes works on any pair."""
    teacher, student = (
        keras_ats.models.get(name, num_classes=3, input_shape=(8, 8, 3))
        for name in ("wrn_10_1", "resnet8")
    )
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        "sgd",
        kd_loss=[AsymmetricTemperatureKD(4, 2), features.Hint("stage3", "stage3")],
        kd_weight=[0.5, 50.0],
        student_weight=0.5,
    )
    x, y = np.ones((2, *SIZE), "float32"), np.zeros(2, int)
    assert distiller.train_on_batch(x, y, return_dict=True)["hint"] > 0
    last = ("stage3", "stage3")
    distiller.compile("sgd", kd_loss=[features.ReusedClassifier(*last), ScaleDecoupledKD(*last)])


def test_table_of_layers():
    lines = []
    features.layers(network(4), lines.append)
    assert [line.split("  ")[0] for line in lines] == [
        "name",
        "trunk",
        "trunk/stage1",
        "trunk/active",
        "stage2",
        "pool",
        "head",
    ]
    assert lines[2].split() == ["trunk/stage1", "Conv2D", "(None,", "4,", "4,", "4)", "4", "x", "4"]
    lines.clear()
    features.layers(subclassed(4), lines.append)
    assert lines[1].split() == ["hidden", "returned", "(None,", "4)"]
    with pytest.raises(ValueError, match="no graph"):
        features.layers(models.subclassed())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (features.Hint("stage3", "stage2"), r"student .* no layer.*'stage3'.*stage2"),
        (features.Hint("stage2", "trunk/stage2"), r"teacher .* no layer.*'trunk/stage2'"),
        (features.Hint("stage2", "pool"), r"positions one by one.*pool=True"),
        (features.Hint("stage1", "stage2"), r"same sizes"),
        (features.Hint("pool", "pool", projector=None), r"as many channels.*\(None, 8\)"),
        (
            features.AttentionTransfer("pool", "pool"),
            r"not defined for.*sequences.*layers\(model\)",
        ),
        (features.NeuronSelectivity("stage2", "pool"), r"not defined for"),
        (
            features.KnowledgeReview(["pool", "stage2"], ["pool", "stage2"]),
            r"shallow to deep.*student_layers=\['pool', 'stage2'\].*Turn both",
        ),
        (
            features.KnowledgeReview(["stage1", "stage2"], ["stage2", "stage1"]),
            r"shallow to deep.*teacher_layers=\['stage2', 'stage1'\]",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_does_not_fit_is_said_by_compile(loss, message):
    distiller = keras_ats.Distiller(network(6), network(4))
    with pytest.raises(ValueError, match=message):
        distiller.compile(kd_loss=loss)


def test_layers_of_one_name_need_the_name_of_their_model():
    def block(name):
        return keras.Sequential([keras.Input((5,)), layers.Dense(5, name="dense")], name=name)

    model = keras.Sequential([keras.Input((5,)), block("one"), block("two"), layers.Dense(3)])
    distiller = keras_ats.Distiller(model, models.linear())
    loss = features.Hint(models.linear().layers[0].name, "dense")
    with pytest.raises(ValueError, match=r"no layer|several layers.*one/dense.*two/dense"):
        distiller.compile(kd_loss=loss)
    student = network_of_vectors("student")
    distiller = keras_ats.Distiller(model, student)
    with pytest.raises(ValueError, match=r"several layers.*one/dense.*two/dense"):
        distiller.compile(kd_loss=features.Hint("hidden", "dense"))
    distiller.compile(kd_loss=features.Hint("hidden", "two/dense"))


def network_of_vectors(name):
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="hidden"), layers.Dense(3)], name=name
    )


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 samples of the student and 2 of the teacher"):
        features.Hint("a", "b")(np.zeros((3, 4)), np.zeros((2, 4)))


def test_a_teacher_of_logits_has_no_layers():
    class Logits:
        variables = ()
        output_names = ("logits",)
        shapes = keras_ats.Shapes()
        supports_jit = True

        def prepare(self, needs):
            pass

        def split(self, x):
            return x, x

        def __call__(self, given):
            return keras_ats.Outputs(given)

    distiller = keras_ats.Distiller(Logits(), network_of_vectors("student"))
    with pytest.raises(ValueError, match="compares inner layers, and the teacher does not"):
        distiller.compile(kd_loss=features.Hint("hidden", "hidden"))


def test_what_several_pairs_are_given():
    with pytest.raises(ValueError, match="Each layer of the student needs one"):
        features.Hint(["a", "b"], "c")
    loss = features.Hint(["a", "b"], ["c", "d"], projector=None)
    first, second = np.ones((2, 3)), np.ones((2, 4, 4, 5))
    value = loss([first, second], [2 * first, 3 * second])
    np.testing.assert_allclose(to_numpy(value), 1.0 + 4.0)
    with pytest.raises(ValueError, match=r"one tensor for each of \['a', 'b'\]"):
        loss(first, first)
    loss = features.Hint(["a", "a"], ["c", "d"], projector=None)
    np.testing.assert_allclose(to_numpy(loss([first, first], [2 * first, 3 * first])), 1.0 + 4.0)
    with pytest.raises(ValueError, match=r"different ones for 'a', which stands twice"):
        loss([first, 2 * first], [first, first])


def test_a_loss_keeps_layers_that_fit():
    loss = features.Hint("hidden", "hidden")
    distiller = keras_ats.Distiller(network_of_vectors("t"), network_of_vectors("s"))
    distiller.compile(kd_loss=loss)
    (projector,) = loss.projectors
    distiller.compile("sgd", kd_loss=loss)
    assert loss.projectors == [projector]
    with pytest.raises(ValueError, match="no layer"):
        distiller.compile(kd_loss=[loss, features.Hint("no", "hidden")])
    assert loss.projectors == [projector]


def test_a_cache_has_no_layers(rng, tmp_path):
    teacher = network_of_vectors("teacher")
    x, y = models.features(rng, 8)
    cache = keras_ats.cache_teacher(teacher, (x, y), tmp_path / "cache")
    distiller = keras_ats.Distiller(cache, network_of_vectors("student"))
    with pytest.raises(ValueError, match=r"not its inner layers.*\['hidden'\] of the teacher"):
        distiller.compile(
            kd_loss=[AsymmetricTemperatureKD(4, 2), features.Hint("hidden", "hidden")]
        )
