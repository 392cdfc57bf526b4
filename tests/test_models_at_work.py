"""The CIFAR networks at work: values as in torch, training, files."""

import functools
import subprocess
import sys

import keras
import models
import numpy as np
import pytest
import torch
import torch_networks
from backends import cases_in_turn, on_one_backend

import keras_ats
from keras_ats.models import get

# Neither square nor even: after the first halving, one side is odd and padding shows.
IMAGE = (18, 22, 3)
SMALL = (8, 8, 3)
# One small member of each family, and the blocks that these have not.
CASES = {
    "resnet8": ({}, functools.partial(torch_networks.resnet, blocks=1)),
    "resnet14": (
        {"widths": (4, 8, 16, 32)},
        functools.partial(torch_networks.resnet, blocks=2, projects_first=True),
    ),
    "wrn_16_1": ({}, functools.partial(torch_networks.wide_resnet, blocks=2)),
    "wrn_10_2": (
        {"dropout": 0.5},
        functools.partial(torch_networks.wide_resnet, blocks=1, projects_first=True),
    ),
    "resnext20_2x4": ({}, functools.partial(torch_networks.resnext, blocks=2)),
    "vgg8": ({}, functools.partial(torch_networks.vgg, convolutions=(1, 1, 1, 1, 1))),
    "vgg11": (
        {"input_shape": (64, 16, 3)},
        functools.partial(torch_networks.vgg, convolutions=(1, 1, 2, 2, 2)),
    ),
    "shufflenet_v1": ({}, torch_networks.shufflenet_v1),
    "shufflenet_v2": ({}, torch_networks.shufflenet_v2),
    "mobilenet_v2": ({}, torch_networks.mobilenet_v2),
}


def fill(model, rng):
    """Random statistics and weights of batch normalisation, and biases."""
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))


@pytest.fixture
def kernels_of_numpy(monkeypatch, rng):
    """Kernels that do not depend on the backend. On JAX, Keras compiles a draw for each shape."""

    def draw(initializer, shape, dtype=None):
        fans = 9 if shape[-1] == 1 else np.prod(shape[:-1])
        value = rng.normal(0, np.sqrt(2 / fans), shape)
        return keras.ops.convert_to_tensor(value.astype("float32"), dtype)

    for name in ("VarianceScaling", "RandomNormal"):
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", draw)


@pytest.fixture(autouse=True)
def _restored_settings():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


@cases_in_turn("a network is a list of layers, and each layer is Keras's")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("kernels_of_numpy")
def test_logits_are_those_of_torch(name, rng):
    options, expected_of = CASES[name]
    options = {"input_shape": IMAGE} | options
    model = get(name, 10, **options)
    fill(model, rng)
    x = rng.normal(size=(2, *options["input_shape"])).astype("float32")
    weights = torch_networks.Weights(model)
    expected = expected_of(weights, torch.from_numpy(x).double().permute(0, 3, 1, 2)).numpy()
    weights.assert_all_used()
    # Nothing is normalised to these batches, so logits grow with depth.
    scale = expected.std()
    assert np.abs(expected[0] - expected[1]).mean() > 0.05 * scale, "the images should matter"
    logits = model.predict_on_batch(x)
    np.testing.assert_allclose(logits / scale, expected / scale, atol=1e-4)


@pytest.mark.usefixtures("kernels_of_numpy")
def test_images_are_channels_last_whatever_keras_is_set_to(rng):
    x = rng.normal(size=(2, *SMALL)).astype("float32")
    options = {"widths": (4, 4, 8, 8), "input_shape": SMALL}
    plain = get("resnet8", 10, **options)
    keras.config.set_image_data_format("channels_first")
    other = get("resnet8", 10, **options)
    other.set_weights(plain.get_weights())
    np.testing.assert_allclose(models.outputs(other, x), models.outputs(plain, x), atol=1e-6)


def test_initial_values_differ_between_layers_and_seeds():
    options = {"widths": (4, 4, 4, 4), "input_shape": SMALL}
    first, second = get("resnet14", 10, **options), get("resnet14", 10, **options)
    keras.utils.set_random_seed(0)
    again = get("resnet14", 10, **options)
    weights = first.get_weights() + second.get_weights()
    kernels = [kernel for kernel in weights if kernel.shape == (3, 3, 4, 4)]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 24
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("kernels_of_numpy")
def test_weight_decay_is_that_of_torch(rng):
    """Where the loss has no gradient, a step of plain SGD takes its share off every weight."""
    model = get("resnet8", 10, weight_decay=0.02, input_shape=SMALL)
    fill(model, rng)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.5), loss=lambda y, logits: 0.0 * keras.ops.sum(logits))
    model.train_on_batch(np.zeros((2, *SMALL)), np.zeros(2))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_allclose(weight.numpy(), old * (1 - 0.5 * 0.02), atol=1e-6)
        assert np.abs(old).max() > 0.01


@on_one_backend("a clone is made of the configuration")
@pytest.mark.usefixtures("kernels_of_numpy")
def test_a_clone_is_the_same_network(rng):
    options = {"widths": (8, 8, 8, 8), "input_shape": SMALL}
    model = get("shufflenet_v2", 10, **options)
    fill(model, rng)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = rng.normal(size=(2, *SMALL)).astype("float32")
    np.testing.assert_allclose(models.outputs(clone, x), models.outputs(model, x), atol=1e-6)


LOAD = """
import sys
import keras, numpy as np
folder = sys.argv[1]
model = keras.saving.load_model(folder + "/model.keras")
assert not any(module.startswith("keras_ats") for module in sys.modules)
logits = model(np.load(folder + "/images.npy"), training=False)
np.save(folder + "/logits.npy", keras.ops.convert_to_numpy(logits))
"""


@on_one_backend("files are Keras's")
@pytest.mark.usefixtures("kernels_of_numpy")
def test_a_file_loads_where_keras_ats_is_not_imported(rng, tmp_path):
    # The one with an operation, a split, that is no layer.
    model = get("shufflenet_v2", 10, widths=(8, 8, 8, 8), input_shape=SMALL, weight_decay=1e-4)
    fill(model, rng)
    x = rng.normal(size=(2, *SMALL)).astype("float32")
    np.save(tmp_path / "images.npy", x)
    model.save(tmp_path / "model.keras")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, models.outputs(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernels_of_numpy")
def test_a_step_of_distillation_trains_the_student_alone(rng):
    keras.config.set_dtype_policy("mixed_float16")
    options = {"widths": (8, 8, 16, 16), "input_shape": SMALL, "weight_decay": 5e-4}
    teacher, student = (get("resnet8", 10, name=role, **options) for role in ("one", "other"))
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2),
    )
    before = [models.numpy_weights(model) for model in (teacher, student)]
    x = rng.normal(size=(4, *SMALL)).astype("float32")
    logs = distiller.train_on_batch(x, rng.integers(0, 10, 4), return_dict=True)
    assert all(np.isfinite(float(value)) for value in logs.values())
    assert logs["loss"] > 0.5 * (logs["student_loss"] + logs["kd_loss"]), "the weights decay"
    after = [models.numpy_weights(model) for model in (teacher, student)]
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(new, old)
    moved = [not np.array_equal(old, new) for old, new in zip(before[1], after[1], strict=True)]
    assert all(moved)
    assert all(np.isfinite(value).all() for value in after[1])
