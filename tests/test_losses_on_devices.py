"""A loss on a batch spread over devices is the loss on one device, or says that it is not."""

import functools
import json

import conftest  # noqa: F401  # Sets up the devices, also in a process without pytest.
import feature_cases
import keras
import numpy as np
import pytest
from keras import ops
from processes import run_together

from keras_ats import adjustments, losses, temperatures
from keras_ats.features import FeatureLoss
from keras_ats.record import Shapes

CLASSES = 6
INDEPENDENT = {
    "temperature": lambda: losses.TemperatureKD(3.0),
    "asymmetric": lambda: losses.AsymmetricTemperatureKD(4, 2),
    "swapped": lambda: losses.TemperatureKD(3.0, adjustment=adjustments.Swap()),
    "smoothed": lambda: losses.TemperatureKD(3.0, adjustment=adjustments.Smooth()),
    "standardised": lambda: losses.TemperatureKD(3.0, adjustment=adjustments.Standardize()),
    # Their mean over the batch is taken over all devices.
    "focal": lambda: losses.DynamicTemperatureKD(temperatures.FocalWeighted(4.0, 2.0)),
    "confidence": lambda: losses.DynamicTemperatureKD(temperatures.ConfidenceWeighted(4.0, 0.5)),
    "standard_deviation": lambda: losses.SoftTargetKD(temperatures.StandardDeviation()),
    "decoupled": losses.DecoupledKD,
    "normalized": losses.NormalizedKD,
    "transformed": lambda: losses.TransformedTeacherKD(weighted=True),
    "curriculum": losses.CurriculumTemperatureKD,
    "refined": losses.RefinedLogitKD,
    "logit_mse": losses.LogitMSE,
    "label_smoothing": losses.LabelSmoothing,
    "hard_label": losses.HardLabelKD,
    "jensen_shannon": losses.JensenShannonKD,
    "regression": losses.RegressionKD,
    "gaussian": losses.GaussianKD,
}
# Their docstrings say that they compare the samples of a replica with one another.
BATCH_DEPENDENT = {"dist": losses.DIST, "relation": losses.RelationKD}


def make_batch():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 8, CLASSES)).astype("float32")
    weights = rng.uniform(0, 2, 8).astype("float32")
    return student, teacher, rng.integers(0, CLASSES, 8), weights


def on_inner_layers(case):
    """Makes a loss on inner layers, whose own layers start alike."""

    def create():
        keras.utils.set_random_seed(0)
        loss = case.create("layer", "layer")
        shapes = Shapes(features={"layer": (None, 3, CLASSES // 3)})
        loss.build(shapes, shapes)
        return loss

    return create


# One bank for all is kept by one device, or by JAX's; the others refuse.
KEEPS = {"contrastive_representation"}
FEATURES = {name: case for name, case in feature_cases.CASES.items() if name not in KEEPS}
INDEPENDENT |= {
    name: on_inner_layers(case) for name, case in FEATURES.items() if not case.compares_samples
}
FEATURES_BATCH_DEPENDENT = {
    name: on_inner_layers(case) for name, case in FEATURES.items() if case.compares_samples
}


def of_batch(loss, student, teacher, labels, sample_weight):
    if isinstance(loss, FeatureLoss):
        shape = (-1, 3, CLASSES // 3)
        student, teacher = ops.reshape(student, shape), ops.reshape(teacher, shape)
        with keras.StatelessScope():
            return loss(student, teacher, sample_weight=sample_weight)
    return loss(student, teacher, labels=labels, sample_weight=sample_weight)


def on_one_device(loss, batch):
    return float(ops.convert_to_numpy(of_batch(loss, *batch)))


def on_two_replicas(create, batch):
    """Sum of what two replicas of `tf.distribute` compute on half the batch each."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = [[part[:4] for part in batch], [part[4:] for part in batch]]
    with strategy.scope():
        loss = create()
    values = [
        strategy.experimental_distribute_values_from_function(
            lambda context, part=part: tf.constant(halves[context.replica_id_in_sync_group][part])
        )
        for part in range(len(batch))
    ]
    run = tf.function(lambda *arguments: strategy.run(functools.partial(of_batch, loss), arguments))
    return float(strategy.reduce("SUM", run(*values), axis=None))


def on_four_devices(create, batch):
    """The loss of a batch that JAX spreads over four devices."""
    import jax

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("batch",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    return float(
        jax.jit(functools.partial(of_batch, create()))(
            *(jax.device_put(part, spread) for part in batch)
        )
    )


def contrast():
    """The loss that keeps embeddings of all samples, as it is after compile."""
    keras.utils.set_random_seed(0)
    loss = feature_cases.crd("layer", "layer")
    shapes = Shapes(features={"layer": (None, CLASSES)})
    loss.build(shapes, shapes)
    return loss


def kept(loss, student, teacher, ids):
    """A batch's loss, and all that is kept after it."""
    with keras.StatelessScope() as scope:
        value = loss(student, teacher, ids=ids)
    state = [*loss.banks, loss.log_normalizers]
    return [value, *(scope.get_current_value(variable) for variable in state)]


def contrast_batch():
    student, teacher, *_ = make_batch()
    return student, teacher, np.arange(8)[::-1].copy()


def contrast_on_two_replicas():
    """What `tf.distribute` is told: in the scope, and where the loss was made before."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    loss = contrast()
    batch = [tf.constant(part) for part in contrast_batch()]
    messages = []
    with strategy.scope():
        for call in (contrast, lambda: strategy.run(lambda: kept(loss, *batch))):
            try:
                call()
            except ValueError as error:
                messages.append(str(error))
    return messages


def contrast_on_four_devices():
    import jax

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("batch",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    batch = [jax.device_put(part, spread) for part in contrast_batch()]
    return [
        np.asarray(one).tolist() for one in jax.jit(functools.partial(kept, contrast()))(*batch)
    ]


def print_values_on_several_devices():
    run = {"tensorflow": on_two_replicas, "jax": on_four_devices}[keras.backend.backend()]
    values = {
        name: run(create, make_batch())
        for name, create in (INDEPENDENT | BATCH_DEPENDENT | FEATURES_BATCH_DEPENDENT).items()
    }
    contrast_on = {"tensorflow": contrast_on_two_replicas, "jax": contrast_on_four_devices}
    values["contrast"] = contrast_on[keras.backend.backend()]()
    print(json.dumps(values))


@pytest.fixture(scope="module")
def on_several_devices():
    """The value of each loss, from a process of its own.

    Two strategies of TensorFlow's in one process can clash over the keys of their collectives.
    """
    (printed,) = run_together([[__file__]])
    return json.loads(printed.splitlines()[-1])


single_device_only = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="on torch each process sees its own batch"
)


@single_device_only
@pytest.mark.parametrize("name", INDEPENDENT)
def test_several_devices_equal_one(name, on_several_devices):
    expected = on_one_device(INDEPENDENT[name](), make_batch())
    np.testing.assert_allclose(on_several_devices[name], expected, rtol=1e-5)


@single_device_only
@pytest.mark.parametrize("name", BATCH_DEPENDENT)
def test_batch_dependent_losses_on_several_devices(name, on_several_devices):
    create, batch = BATCH_DEPENDENT[name], make_batch()
    expected = on_one_device(create(), batch)
    actual = on_several_devices[name]
    if keras.backend.backend() == "jax":
        # One array over four devices: the batch is the global one.
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
    else:
        halves = [[part[:4] for part in batch], [part[4:] for part in batch]]
        local = [on_one_device(create(), half) for half in halves]
        np.testing.assert_allclose(actual, np.mean(local), rtol=1e-5)
        # By how much: not rounding, but not another loss either.
        assert 1e-3 < abs(actual - expected) / expected < 0.9
    assert "replica" in create.__doc__


@single_device_only
@pytest.mark.parametrize("name", FEATURES_BATCH_DEPENDENT)
def test_losses_on_inner_layers_that_compare_samples(name, on_several_devices):
    create, batch = FEATURES_BATCH_DEPENDENT[name], make_batch()
    actual = on_several_devices[name]
    if keras.backend.backend() == "jax":
        # One array over four devices: the batch is the global one, its statistics too.
        np.testing.assert_allclose(actual, on_one_device(create(), batch), rtol=1e-4)
        return
    halves = [[part[:4] for part in batch], [part[4:] for part in batch]]
    local = [on_one_device(create(), half) for half in halves]
    np.testing.assert_allclose(actual, np.mean(local), rtol=1e-4)


@single_device_only
def test_what_is_kept_of_samples_is_kept_once(on_several_devices):
    """JAX's devices share one bank; replicas, which would have one each, are refused."""
    if keras.backend.backend() == "tensorflow":
        assert len(on_several_devices["contrast"]) == 2
        for message in on_several_devices["contrast"]:
            assert "Received: 2 replicas. Train on one device" in message
        return
    expected = kept(contrast(), *contrast_batch())
    for one, other in zip(on_several_devices["contrast"], expected, strict=True):
        np.testing.assert_allclose(one, ops.convert_to_numpy(other), rtol=1e-5, atol=1e-6)


def test_every_public_loss_is_listed():
    covered = {
        type(create())
        for name, create in (INDEPENDENT | BATCH_DEPENDENT).items()
        if name not in FEATURES
    }
    public = {getattr(losses, name) for name in losses.__all__}
    bases = {
        losses.DistillationLoss,
        losses.KDLoss,
        losses.SoftTargetKD,
        losses.get,
        losses.LabelCrossentropy,
    }
    # Sigmoid units: rows of zeros and ones for labels, tested on their own. And any of these losses
    # on regions.
    assert public - covered - bases == {losses.BernoulliKD, losses.ScaleDecoupledKD}


if __name__ == "__main__":
    print_values_on_several_devices()
