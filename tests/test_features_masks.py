"""Which positions of inner layers count, where one model masks what the other does not."""

import keras
import numpy as np
import pytest
from backends import cases_in_turn, on_one_backend
from keras import layers, ops

import keras_ats
from keras_ats import features

SHAPE = (3, 8, 4)


def to_float(value):
    return float(ops.convert_to_numpy(value))


def with_mask(values, valid):
    """The tensor, its first positions valid by the mask that Keras hands on."""
    tokens = np.where(np.arange(values.shape[1])[None, :, None] < valid, values, 0.0)
    return layers.Masking()(tokens.astype("float32"))


@pytest.fixture
def tokens(rng):
    return rng.normal(size=(2, *SHAPE)).astype("float32")


@pytest.mark.parametrize("masked", ["student", "teacher", "both"])
@on_one_backend("masks are ordinary tensors")
def test_positions_that_either_masks_are_left_out(masked, tokens):
    student, teacher = tokens
    loss = features.Hint("a", "b", projector=None)
    valid = {"student": (5, 8), "teacher": (8, 5), "both": (7, 5)}[masked]
    given = [
        with_mask(one, count) if count < 8 else one
        for one, count in zip(tokens, valid, strict=True)
    ]
    expected = np.mean((student[:, :5] - teacher[:, :5]) ** 2)
    np.testing.assert_allclose(to_float(loss(*given)), expected, rtol=1e-5)
    # Means over positions are of each side's own.
    loss = features.Hint("a", "b", projector=None, pool=True)
    means = [
        one[:, : min(valid) if masked != "both" else count].mean(axis=1)
        for one, count in zip(tokens, valid, strict=True)
    ]
    np.testing.assert_allclose(
        to_float(loss(*given)), np.mean((means[0] - means[1]) ** 2), rtol=1e-5
    )


@on_one_backend("masks are ordinary tensors")
def test_the_mask_that_is_given_goes_before_that_of_keras(tokens):
    student, teacher = tokens
    loss = features.Hint("a", "b", projector=None)
    mask = np.broadcast_to(np.arange(8) < 3, SHAPE[:2])
    expected = np.mean((student[:, :3] - teacher[:, :3]) ** 2)
    value = loss(with_mask(student, 6), teacher, mask=mask)
    np.testing.assert_allclose(to_float(value), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "create",
    [
        features.AttentionTransfer,
        features.NeuronSelectivity,
        features.VariationalInformation,
        features.ReusedClassifier,
        features.FeatureOverhaul,
    ],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("longer", ["student", "teacher"])
@cases_in_turn("masks are ordinary tensors")
def test_masks_are_averaged_with_their_maps(create, longer, tokens):
    """Padding at the end is as if it were not there, also where sizes differ."""
    long, short = tokens[0], tokens[1][:, :4]
    sides = [(long, 4), (short, 4)] if longer == "student" else [(short, 4), (long, 4)]
    loss = create("a", "b")
    padded = [with_mask(one, count) if one is long else one for one, count in sides]
    loss(*padded)  # Makes its layers.
    with keras.StatelessScope():
        value = loss(*padded)
        cut = loss(*(one[:, : one.shape[1] // 2] for one, _ in sides))
    np.testing.assert_allclose(to_float(value), to_float(cut), rtol=1e-4)


def model_of_tokens(role, masks):
    """Its layer says what its half of the input says; the mask comes behind that layer."""
    inputs = keras.Input((8, 8))
    kernel = np.eye(8)[:, :4] if role == "student" else np.eye(8)[:, 4:]
    hidden = layers.Dense(4, use_bias=False, name="hidden")(inputs)
    after = layers.Masking()(hidden) if masks else hidden
    model = keras.Model(inputs, layers.Dense(3)(after), name=role)
    model.get_layer("hidden").set_weights([kernel])
    return model


@on_one_backend("which mask is taken is Python's")
def test_the_mask_of_a_teachers_logits_is_that_of_its_layers(tokens):
    student, teacher = tokens
    x = np.concatenate([student, np.where(np.arange(8)[:, None] < 5, teacher, 0)], axis=-1)
    distiller = keras_ats.Distiller(
        model_of_tokens("teacher", masks=True), model_of_tokens("student", masks=False)
    )
    hint = features.Hint("hidden", "hidden", projector=None)
    distiller.compile("sgd", kd_loss=hint, kd_weight=1.0, student_weight=0.0)
    logs = distiller.train_on_batch(x, np.zeros((3, 8)), return_dict=True)
    expected = np.mean((student[:, :5] - teacher[:, :5]) ** 2)
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=1e-5)
