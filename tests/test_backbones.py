"""Backbones of keras-cv and KerasHub as teachers. Nothing here may download."""

from collections import namedtuple

import keras
import keras_cv
import keras_hub
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import AsymmetricTemperatureKD
from keras_ats.models import cifar_backbone, classifier

pytestmark = cases_in_turn("a backbone is a list of layers, and each layer is Keras's")

STACKS = {
    "stackwise_filters": [64, 64],
    "stackwise_blocks": [2, 2],
    "stackwise_strides": [1, 2],
    "block_type": "basic_block",
}
HUB_STACKS = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
# How to build it; the layers with weights that go; the last layer of the stem; the CIFAR form.
Case = namedtuple("Case", "build gone last features")
CASES = {
    "keras-cv ResNet": Case(
        lambda: keras_cv.models.ResNetBackbone(**STACKS, include_rescaling=True),
        ["conv1_conv", "conv1_bn"],
        "pool1_pool",
        (16, 16, 64),
    ),
    "keras-cv ResNetV2": Case(
        lambda: keras_cv.models.ResNetV2Backbone(**STACKS, include_rescaling=True),
        ["conv1_conv"],
        "pool1_pool",
        (16, 16, 64),
    ),
    "keras-cv DenseNet": Case(
        lambda: keras_cv.models.DenseNetBackbone(
            stackwise_num_repeats=[1, 1], growth_rate=8, include_rescaling=True
        ),
        ["conv1_conv", "conv1_bn"],
        "pool1",
        (16, 16, 44),
    ),
    "keras-cv CSPDarkNet": Case(
        lambda: keras_cv.models.CSPDarkNetBackbone(
            stackwise_channels=[16, 16], stackwise_depth=[1, 1], include_rescaling=True
        ),
        ["stem_conv", "dark2_conv"],
        "dark2_conv",
        (16, 16, 16),
    ),
    "KerasHub ResNet": Case(
        lambda: keras_hub.models.ResNetBackbone(**HUB_STACKS),
        ["conv1_conv", "conv1_bn"],
        "pool1_pool",
        (16, 16, 64),
    ),
    "KerasHub ResNetV2": Case(
        lambda: keras_hub.models.ResNetBackbone(**HUB_STACKS, use_pre_activation=True),
        ["conv1_conv"],
        "pool1_pool",
        (16, 16, 64),
    ),
    "KerasHub DenseNet": Case(
        lambda: keras_hub.models.DenseNetBackbone(stackwise_num_repeats=[1, 1], growth_rate=8),
        ["conv1_conv", "conv1_bn"],
        "pool1",
        (16, 16, 44),
    ),
    # As CSPDarkNet-53: no pool, the first stage halves the image.
    "KerasHub CSPNet": Case(
        lambda: keras_hub.models.CSPNetBackbone(
            stem_filters=8,
            stem_kernel_size=3,
            stem_strides=1,
            stem_padding="same",
            stackwise_depth=[1, 1],
            stackwise_strides=[2, 2],
            stackwise_num_filters=[8, 16],
            block_type="bottleneck_block",
            stage_type="csp",
            expand_ratio=[2.0, 2.0],
            down_growth=True,
        ),
        ["csp_stem_conv_0", "csp_stem_bn_0", "stage_0_csp_conv_down_1", "stage_0_csp_bn_1"],
        "stage_0_csp_activation_1",
        (16, 16, 16),
    ),
    # Of a fixed size of images, and with weights that a real network would have.
    "a residual network": Case(
        lambda: residual_network((64, 64, 3)), ["conv", "conv_bn"], "conv_relu", (32, 32, 8)
    ),
}


def residual_network(image_shape):
    inputs = keras.Input(image_shape)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="conv_bn")(x)
    x = layers.ReLU(name="conv_relu")(x)
    y = layers.Conv2D(8, 3, padding="same", name="block_conv")(x)
    return keras.Model(inputs, layers.Add()([x, y]))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A backbone, its CIFAR form, and what is known of them."""
    case = CASES[request.param]
    backbone = case.build()
    return backbone, cifar_backbone(backbone), case


@pytest.fixture(scope="module")
def resnet():
    return CASES["keras-cv ResNet"].build()


@pytest.fixture
def images(rng):
    """Eight images of 16x16 pixels, values 0 to 255, and their labels."""
    return rng.uniform(0, 255, (8, 16, 16, 3)).astype("float32"), rng.integers(0, 4, 8)


@pytest.fixture
def _mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


# --- cifar_backbone


def test_trunk_of_the_cifar_form_is_the_backbones(case, rng):
    backbone, form, (_, gone, last, features) = case
    trunk = form.layers[-1]
    assert form.output_shape == (None, *features)
    # The first stage has all pixels, and as many channels as its weights ask for.
    end_of_stem = backbone.get_layer(last).output
    assert trunk.input_shape == (None, 32, 32, end_of_stem.shape[-1])

    kept = {id(weight) for weight in trunk.weights}
    lost = {id(weight) for name in gone for weight in backbone.get_layer(name).weights}
    assert kept == {id(weight) for weight in backbone.weights} - lost
    parameters = sum(backbone.get_layer(name).count_params() for name in gone)
    assert trunk.count_params() == backbone.count_params() - parameters > 0

    x = rng.normal(size=(1, 32, 32, end_of_stem.shape[-1])).astype("float32")
    if backbone.input_shape[1] is None:
        expected = keras.Model(end_of_stem, backbone.outputs[0])
        np.testing.assert_allclose(
            models.outputs(trunk, x), models.outputs(expected, x), rtol=1e-4, atol=1e-5
        )


def test_cifar_form_has_a_new_stem_and_keeps_rescaling(case, rng):
    backbone, form, (_, gone, *_) = case
    rescales = getattr(backbone, "include_rescaling", False)
    normalizes = any("bn" in name or name == "stem_conv" for name in gone)
    expected = [layers.Rescaling] * rescales + [layers.Conv2D]
    expected += [layers.BatchNormalization, layers.ReLU] * normalizes
    stem = form.layers[1:-1]
    assert [type(layer) for layer in stem] == expected
    convolution = form.get_layer("stem_conv")
    assert convolution.kernel_size == (3, 3)
    assert convolution.strides == (1, 1)
    assert convolution.use_bias is not normalizes

    x = rng.uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    step_by_step = x / 255 if rescales else x
    for layer in form.layers[1 + rescales :]:
        step_by_step = layer(step_by_step, training=False)
    np.testing.assert_allclose(
        models.outputs(form, x), keras.ops.convert_to_numpy(step_by_step), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings(
    # keras-cv's CrossStagePartial has no `build`; Keras builds it by calling it a moment later.
    "ignore:`build\\(\\)` was called on layer 'dark:UserWarning"
)
def test_cifar_form_comes_back_from_its_file(case, rng, tmp_path):
    # In safe mode: no byte code of keras-cv's Lambda layers is in the file.
    _, form, _ = case
    form.save(tmp_path / "form.keras")
    reloaded = keras.models.load_model(tmp_path / "form.keras")
    x = rng.uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(models.outputs(reloaded, x), models.outputs(form, x), rtol=1e-5)


def test_cifar_form_takes_names_and_sizes(resnet):
    form = cifar_backbone(resnet, image_size=64, name="small")
    assert form.name == "small"
    assert form.output_shape == (None, 32, 32, 64)
    assert cifar_backbone(resnet).name == f"{resnet.name}_cifar"
    assert cifar_backbone(resnet).layers[-1].name == f"{resnet.name}_trunk"


def test_standard_depth_ends_in_four_pixels():
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64] * 4,
        stackwise_blocks=[1] * 4,
        stackwise_strides=[1, 2, 2, 2],
        block_type="basic_block",
        include_rescaling=False,
    )
    assert backbone.compute_output_shape((None, 32, 32, 3)) == (None, 1, 1, 64)
    assert cifar_backbone(backbone).output_shape == (None, 4, 4, 64)


def test_frozen_trunk_stays_frozen():
    backbone = residual_network((None, None, 3))
    backbone.trainable = False
    form = cifar_backbone(backbone)
    assert [weight.path for weight in form.trainable_weights] == [
        "stem_conv/kernel",
        "stem_bn/gamma",
        "stem_bn/beta",
    ]


def test_channels_may_come_first():
    backbone = keras_hub.models.ResNetBackbone(
        **HUB_STACKS, image_shape=(3, None, None), data_format="channels_first"
    )
    form = cifar_backbone(backbone)
    assert form.output_shape == (None, 64, 16, 16)
    assert form.get_layer("stem_bn").axis == 1
    model = classifier(form, 5)
    assert model.get_layer("pool").data_format == "channels_first"
    assert model.get_layer("pool").output.shape == (None, 64)


def no_stem(image_shape):
    return keras.Model(
        inputs := keras.Input(image_shape), layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    )


def full_resolution():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3)(inputs)  # Without padding: two pixels less.
    return keras.Model(inputs, layers.Add()([x, layers.Conv2D(4, 1)(x)]))


def depthwise():
    inputs = keras.Input((None, None, 3))
    x = layers.DepthwiseConv2D(3, strides=2)(layers.Conv2D(4, 3, strides=2)(inputs))
    return keras.Model(inputs, layers.Add()([x, layers.Conv2D(4, 1)(x)]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: no_stem((None, None, 3)), "as ResNet, ResNetV2, .* no block with branches"),
        (full_resolution, "full resolution already: use it as it is"),
        (depthwise, "a DepthwiseConv2D and so part of a block"),
        (models.linear, r"from images to a feature map.* Received: .*\(None, 5\)"),
        (models.subclassed, "built from symbolic inputs"),
    ],
)
def test_what_has_no_cifar_form(build, message):
    with pytest.raises(ValueError, match=message):
        cifar_backbone(build())


def test_arguments_of_the_cifar_form():
    with pytest.raises(TypeError, match=r"must be a keras.Model. Received: 'resnet50' of type str"):
        cifar_backbone("resnet50")
    with pytest.raises(ValueError, match="`image_size` must be at least 1"):
        cifar_backbone(no_stem((None, None, 3)), image_size=0)
    with pytest.raises(TypeError, match="`image_size` must be an integer"):
        cifar_backbone(no_stem((None, None, 3)), image_size=(32, 32))


# --- classifier


def head(model, features):
    """Logits of features `(batch, channels)`, float64."""
    kernel, bias = (np.asarray(weight, "float64") for weight in model.layers[-1].get_weights())
    return features @ kernel + bias


def test_classifier_averages_feature_maps(resnet, images):
    model = classifier(resnet, 4)
    assert model.name == f"{resnet.name}_classifier"
    assert model.get_layer(resnet.name) is resnet
    features = models.outputs(resnet, images[0]).mean(axis=(1, 2))
    np.testing.assert_allclose(
        models.outputs(model, images[0]), head(model, features), rtol=1e-4, atol=1e-5
    )


def test_classifier_averages_tokens(rng):
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3), patch_size=4, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8
    )
    model = classifier(backbone, 4, name="vit")
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    features = models.outputs(backbone, x)
    assert features.shape == (2, 5, 8)  # Four patches and the class token.
    assert model.name == "vit"
    np.testing.assert_allclose(
        models.outputs(model, x), head(model, features.mean(axis=1)), rtol=1e-4, atol=1e-5
    )


def test_classifier_leaves_padding_out_of_the_average(rng):
    backbone = keras.Sequential(
        [keras.Input((None,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True)]
    )
    model = classifier(backbone, 3)
    short, padded = np.array([[5, 7]]), np.array([[5, 7, 0, 0]])
    assert model.inputs[0].dtype == "int32"
    np.testing.assert_allclose(
        models.outputs(model, padded), models.outputs(model, short), rtol=1e-5
    )


def test_classifier_takes_vectors_and_drops_some(rng):
    inputs = keras.Input((6,), name="measured")
    backbone = keras.Model({"measured": inputs}, layers.Dense(50)(inputs))
    model = classifier(backbone, 2, dropout=0.5)
    x = {"measured": rng.normal(size=(4, 6)).astype("float32")}
    np.testing.assert_allclose(
        models.outputs(model, x), head(model, models.outputs(backbone, x)), rtol=1e-4, atol=1e-5
    )
    in_training = keras.ops.convert_to_numpy(model(x, training=True))
    assert np.abs(in_training - models.outputs(model, x)).max() > 1e-3
    assert not any(isinstance(layer, layers.Dropout) for layer in classifier(backbone, 2).layers)


@pytest.mark.usefixtures("_mixed_precision")
def test_logits_stay_float32_under_mixed_precision(rng):
    backbone = residual_network((8, 8, 3))
    model = classifier(cifar_backbone(backbone, image_size=8), 4, dropout=0.1)
    assert backbone.outputs[0].dtype == "bfloat16"
    assert [tensor.dtype for tensor in model.outputs] == ["float32"]
    assert model.get_layer("pool").compute_dtype == "float32"
    logits = model(rng.normal(size=(2, 8, 8, 3)).astype("float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"P3": inputs, "P4": layers.Dense(2)(inputs)})


def two_inputs():
    inputs = [keras.Input((4,), name="left"), keras.Input((4,), name="right")]
    return keras.Model(inputs, layers.Add()(inputs))


def five_axes():
    return keras.Sequential([keras.Input((2, 2, 2, 1)), layers.Conv3D(2, 1)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (two_outputs, r"outputs \{'P3': \(None, 4\), .* model.output\['P4'\]"),
        (two_inputs, r"must take one input, images. .* \['left', 'right'\]"),
        (five_axes, r"output shape \(None, 2, 2, 2, 2\). Pool"),
        (models.subclassed, "built from symbolic inputs"),
        (lambda: models.linear(softmax=True), "ends in a softmax, so it is a classifier already"),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Softmax()]),
            "ends in a softmax",
        ),
        (
            lambda: keras_cv.models.ImageClassifier(
                backbone=no_stem((None, None, 3)), num_classes=3, activation=None
            ),
            r"of type ImageClassifier, which has a head already. .* `.backbone`",
        ),
    ],
)
def test_what_is_not_a_backbone(build, message):
    with pytest.raises(ValueError, match=message):
        classifier(build(), 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("resnet50", 3), TypeError, "must be a keras.Model. Received: 'resnet50'"),
        ((five_axes, 1), ValueError, "`num_classes` must be at least 2"),
        ((five_axes, 2.5), TypeError, "`num_classes` must be an integer"),
        ((five_axes, 3, 1.0), ValueError, "`dropout` must be at least 0 and below 1"),
    ],
)
def test_arguments_of_the_classifier(arguments, error, message):
    backbone, num_classes, *dropout = arguments
    backbone = backbone if isinstance(backbone, str) else backbone()
    with pytest.raises(error, match=message):
        classifier(backbone, num_classes, **dict.fromkeys(["dropout"][: len(dropout)], *dropout))


def test_a_name_that_is_none_is_refused(resnet):
    for adapt in (cifar_backbone, lambda *_, name: classifier(resnet, 3, name=name)):
        with pytest.raises(ValueError, match=r"`name` must be a string.*name=\[\]"):
            adapt(resnet, name=[])


# --- a whole distillation


@pytest.mark.parametrize("library", ["keras-cv ResNet", "KerasHub ResNet"])
def test_teacher_is_trained_distilled_saved_and_reloaded(library, images, tmp_path):
    x, y = images
    teacher = classifier(cifar_backbone(CASES[library].build(), image_size=16), 4)
    before = models.numpy_weights(teacher)
    teacher.compile(
        keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    teacher.fit(x, y, batch_size=4, verbose=0)
    trained = models.numpy_weights(teacher)
    names = [variable.path for variable in teacher.variables]
    moved = {name for name, a, b in zip(names, before, trained, strict=True) if np.any(a != b)}
    assert {"stem_conv/kernel", "logits/kernel"} <= moved
    assert any("trunk" not in name and "1_conv/kernel" in name for name in moved)

    student = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=4),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    untrained = models.outputs(student, x)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(keras.optimizers.SGD(0.1), kd_loss=AsymmetricTemperatureKD(4, 2))
    history = distiller.fit(x, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["kd_loss"][0])
    assert np.abs(models.outputs(student, x) - untrained).max() > 1e-3
    for ours, frozen in zip(models.numpy_weights(teacher), trained, strict=True):
        np.testing.assert_array_equal(ours, frozen)

    for name, model in (("student", student), ("teacher", teacher)):
        model.save(tmp_path / f"{name}.keras")
        reloaded = keras.models.load_model(tmp_path / f"{name}.keras")
        np.testing.assert_allclose(
            models.outputs(reloaded, x), models.outputs(model, x), rtol=1e-5, atol=1e-6
        )
