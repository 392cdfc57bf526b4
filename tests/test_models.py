"""The CIFAR networks without their values: sizes as published, names, weight decay, errors."""

import functools
import itertools
import json

import keras
import numpy as np
import pytest
from backends import on_one_backend

from keras_ats.features import Hint
from keras_ats.models import get, names, vgg
from keras_ats.views import View
from keras_ats.views.classifier import find_classifier

# Trainable parameters with 100 classes, counted in the official files.
REP_DISTILLER = {  # HobbitLong/RepDistiller (CRD), models/*.py
    "resnet8": 83892,
    "resnet14": 181108,
    "resnet20": 278324,
    "resnet32": 472756,
    "resnet44": 667188,
    "resnet56": 861620,
    "resnet110": 1736564,
    "resnet8x4": 1233540,
    "resnet32x4": 7433860,
    "wrn_16_2": 703284,
    "wrn_40_1": 569780,
    "wrn_40_2": 2255156,
    "vgg8": 3965028,
    "vgg11": 9277284,
    "vgg13": 9462180,
    "shufflenet_v1": 949258,
    "shufflenet_v2": 1355528,
    "mobilenet_v2": 812836,
}
ATS_LARGE_KD = {  # lxcnju/ATS-LargeKD, networks/*.py at 8a770e7
    "wrn_28_1": 375348,
    "wrn_28_8": 23401012,
    "wrn_28_10": 36536884,
    "resnext29_8x4": 1809828,
    "resnext29_32x4": 4868004,
    "resnext29_8x64": 34518948,
    "resnext29_16x64": 68247460,
}
# Millions with 10 classes, as the papers print them. Their ResNets have shortcuts without weights.
PAPERS = {
    "resnet20": "0.27",
    "resnet32": "0.46",
    "resnet44": "0.66",
    "resnet56": "0.85",
    "resnet110": "1.7",
    "wrn_40_1": "0.6",
    "wrn_40_2": "2.2",
    "wrn_28_10": "36.5",
    "resnext29_8x64": "34.4",
    "resnext29_16x64": "68.1",
}
FAMILIES = ["resnet8x4", "wrn_16_2", "resnext11_2x4", "vgg8", *names()[-3:]]


def without_values(network, num_classes=100, **options):
    """The network with shapes only: nothing is drawn, so that large ones are quick to build."""
    with keras.StatelessScope(initialize_variables=False):
        return get(network, num_classes, **options)


of_family = functools.cache(without_values)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


shapes_only = on_one_backend("layers and their shapes, which Keras works out")


@pytest.fixture(autouse=True)
def _restored_data_format():
    yield
    keras.config.set_image_data_format("channels_last")


@shapes_only
def test_parameters_are_those_of_the_published_code():
    published = REP_DISTILLER | ATS_LARGE_KD
    assert set(names()) == set(published) - {"wrn_28_10"}
    assert {name: parameters(without_values(name)) for name in published} == published


@shapes_only
@pytest.mark.parametrize(("name", "millions"), PAPERS.items())
def test_parameters_are_those_of_the_papers_to_the_last_digit(name, millions):
    last_digit = 10.0 ** -len(millions.partition(".")[2])
    count = parameters(without_values(name, num_classes=10)) / 1e6
    assert count == pytest.approx(float(millions), abs=last_digit)


@shapes_only
@pytest.mark.parametrize(
    ("name", "wide", "narrow", "depthwise"),
    [
        ("resnet56", 56 - 1, 2, 0),
        ("resnet32x4", 32 - 1, 3, 0),
        ("wrn_40_1", 40 - 3, 2, 0),
        ("wrn_40_2", 40 - 3, 3, 0),
        ("resnext29_8x4", 1 + 9, 2 * 9 + 3, 0),
        ("vgg8", 8 - 3, 0, 0),
        ("vgg13", 13 - 3, 0, 0),
        ("vgg19", 19 - 3, 0, 0),
        ("shufflenet_v1", 0, 1 + 2 * 16, 16),
        ("shufflenet_v2", 0, 1 + 3 * 3 + 2 * 13 + 1, 3 + 16),
        ("mobilenet_v2", 1, 2 * 17 + 1, 17),
    ],
)
def test_number_of_convolutions(name, wide, narrow, depthwise):
    """Of 3x3, 1x1 and depthwise ones; a depth counts Dense layers and, in WRN, shortcuts too."""
    found = without_values(name).layers
    kernels = [layer.kernel_size for layer in found if type(layer) is keras.layers.Conv2D]
    assert kernels.count((3, 3)) == wide
    assert kernels.count((1, 1)) == narrow
    assert sum(type(layer) is keras.layers.DepthwiseConv2D for layer in found) == depthwise


@pytest.mark.parametrize(
    ("name", "kind", "deviation"),
    [
        ("vgg8", keras.layers.Conv2D, np.sqrt(2 / (9 * 512))),
        ("shufflenet_v2", keras.layers.DepthwiseConv2D, np.sqrt(2 / 9)),
        ("resnet8", keras.layers.Dense, 1 / np.sqrt(3 * 64)),
        ("vgg8", keras.layers.Dense, 0.01),
    ],
)
def test_initial_values_of_the_last_layer_of_a_kind(name, kind, deviation):
    *_, layer = (layer for layer in without_values(name).layers if type(layer) is kind)
    depthwise = kind is keras.layers.DepthwiseConv2D
    draw = layer.depthwise_initializer if depthwise else layer.kernel_initializer
    values = keras.ops.convert_to_numpy(draw(layer.kernel.shape))
    assert values.std() == pytest.approx(deviation, rel=0.05)


@shapes_only
@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_has_the_weight_decay(name):
    decays = [w.regularizer for w in without_values(name, weight_decay=6e-4).trainable_weights]
    assert {float(decay.l2) for decay in decays} == {3e-4}
    plain = without_values(name)
    assert not plain.losses
    assert {w.regularizer for w in plain.trainable_weights} == {None}


@shapes_only
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_are_of_keras_alone_and_channels_last(name):
    keras.config.set_image_data_format("channels_first")
    config = json.dumps(without_values(name, weight_decay=1e-4).get_config())
    assert "keras_ats" not in config
    assert '"Lambda"' not in config
    assert "channels_last" in config
    assert "channels_first" not in config


@shapes_only
@pytest.mark.parametrize("name", FAMILIES)
def test_ends_of_stages_have_names(name):
    """Stage n ends where the image has been halved n - 1 times; the classifier reads the last."""
    model = of_family(name)
    sizes = {one.name: one.output.shape[1:3] for one in model.layers if "stage" in one.name}
    numbers = range(2, 6) if name == "mobilenet_v2" else range(1, 1 + len(sizes))
    assert sizes == {f"stage{n}": (32 // 2 ** (n - 1),) * 2 for n in numbers}
    assert [layer.name for layer in model.layers[-2:]] == ["pool", "logits"]
    assert find_classifier(model).reads == list(sizes)[-1]


@shapes_only
def test_the_third_stages_of_any_two_networks_can_be_compared():
    shapes = [
        View(of_family(name), True, "model", features=("stage3",)).shapes for name in FAMILIES
    ]
    for student, teacher in itertools.pairwise([*shapes, shapes[0]]):
        Hint("stage3", "stage3").build(student, teacher)


@shapes_only
def test_weights_are_found_whatever_layers_were_called(tmp_path):
    """Files that were saved before layers had names of ours."""
    model = get("wrn_10_1", 3, input_shape=(8, 8, 3))
    earlier = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": f"layer_{id(layer)}"}
        ),
    )
    earlier.save_weights(tmp_path / "earlier.weights.h5")
    model.load_weights(tmp_path / "earlier.weights.h5")
    for one, other in zip(model.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_name_their_networks():
    model = without_values("resnet26", num_classes=7, name="student", input_shape=(28, 28, 1))
    assert model.name == "student"
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 7)
    assert without_values("wrn_10_3").name == "wrn_10_3"
    dropout = without_values("wrn_10_1", dropout=0.3)
    assert [layer.rate for layer in dropout.layers if type(layer) is keras.layers.Dropout] == [
        0.3
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("resnet8x", 10),
            {},
            r"mean 'resnet8x4' or 'resnet8'.*Expected one of \['resnet8'",
        ),
        (("WRN-40-2", 10), {}, "Did you mean 'wrn_40_2'"),
        (("ShuffleV2", 10), {}, "Did you mean 'shufflenet_v2'"),
        (("alexnet", 10), {}, "'alexnet'.*'wrn_28_10'"),
        (("resnet21", 10), {}, r"6n \+ 2: 8, 14, 20, 26, .*depth=21. The nearest is 20"),
        (("resnet2", 10), {}, "The nearest is 8"),
        (("wrn_28_0", 10), {}, "`widen_factor` must be at least 1"),
        (("wrn_27_1", 10), {}, r"6n \+ 4: 10, 16, .*The nearest is 28"),
        (("wrn_28_1", 10), {"dropout": 1.0}, "`dropout` must be at least 0 and below 1"),
        (("resnext30_8x4", 10), {}, r"9n \+ 2: 11, 20, 29, .*The nearest is 29"),
        (("resnext29_0x4", 10), {}, "`cardinality`"),
        (("vgg9", 10), {}, r"\[8, 11, 13, 16, 19\].*depth=9"),
        (("resnet8", 1), {}, "`num_classes` must be at least 2. Received: num_classes=1"),
        (("resnet8", 10), {"input_shape": (32, 32)}, r"height, width, channels.*\(32, 32\)"),
        (("resnet8", 10), {"input_shape": (None, None, 3)}, "three integers"),
        (("resnet8", 10), {"input_shape": (3, 32, 32)}, "channels last"),
        (("resnet8", 10), {"weight_decay": -1.0}, "`weight_decay` must be at least 0"),
        (("resnet8", 10), {"weight_decay": float("nan")}, "`weight_decay` must be at least 0"),
        (("resnet8", 10), {"widths": (16, 32, 64)}, "`widths` must be 4 numbers"),
        (("shufflenet_v2", 10), {"widths": (7, 8, 8, 8)}, "must be even"),
        (("mobilenet_v2", 10), {"width": 0.01}, "`width` must be at least 0.0625"),
        (("mobilenet_v2", 10), {"expansion": 0}, "`expansion`"),
        (("resnet8", 10), {"widths": b"abcd"}, "`widths` must be 4 numbers"),
    ],
)
def test_errors_of_values(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        without_values(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, 10), {}, "by its name"),
        (("resnet8", "10"), {}, "`num_classes` must be an integer"),
        (("resnet8", True), {}, "`num_classes` must be an integer"),
        (("resnet8", 10.0), {}, "`num_classes` must be an integer"),
        (("resnet8", 10), {"weight_decay": "5e-4"}, "`weight_decay` must be a number"),
        (("resnet8", 10), {"dropout": 0.3}, "unexpected keyword argument 'dropout'"),
        (("resnet8", 10), {"depth": 20}, "says that depth=8. Received: depth=20 beside it"),
        (("resnet8x4", 10), {"widths": (1, 2, 3, 4)}, r"says that widths=\(32, 64, 128, 256\)"),
    ],
)
def test_errors_of_types(arguments, options, message):
    with pytest.raises(TypeError, match=message):
        without_values(*arguments, **options)


@pytest.mark.parametrize("depth", [8.0, "8", None, [8], True])
def test_the_depth_of_a_vgg_is_an_integer(depth):
    with pytest.raises(TypeError, match="`depth` must be an integer"):
        vgg(depth, 10)
