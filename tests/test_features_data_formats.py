"""Where inner layers have their channels is what the models say, not what Keras is set to."""

import keras
import numpy as np
import pytest
from backends import on_one_backend
from keras import layers, ops

import keras_ats
from keras_ats import features
from keras_ats.losses import ScaleDecoupledKD

pytestmark = on_one_backend("convolutions with channels first need a GPU elsewhere")
LAST, FIRST = "channels_last", "channels_first"


@pytest.fixture(params=[LAST, FIRST], autouse=True)
def _configured(request):
    keras.config.set_image_data_format(request.param)
    yield
    keras.config.set_image_data_format(LAST)


def network(width, data_format, kind="image"):
    """Its map has 4 x 2 positions, or 4; pooled over positions it makes logits."""
    options = {"data_format": data_format, "name": "map"}
    if kind == "image":
        size, layer = (8, 4), layers.Conv2D(width, 3, strides=2, padding="same", **options)
        pool = layers.GlobalAveragePooling2D(data_format=data_format)
    else:
        size, layer = (8,), layers.Conv1D(width, 3, strides=2, padding="same", **options)
        pool = layers.GlobalAveragePooling1D(data_format=data_format)
    shape = (3, *size) if data_format == FIRST else (*size, 3)
    return keras.Sequential([keras.Input(shape), layer, pool, layers.Dense(3, name="logits")])


def transformer():
    """Patches by a convolution with channels first; tokens have theirs last."""
    inputs = keras.Input((3, 8, 4))
    patches = layers.Conv2D(5, 2, strides=2, data_format=FIRST)(inputs)
    tokens = layers.LayerNormalization(name="map")(
        layers.Permute((2, 1))(layers.Reshape((5, 8))(patches))
    )
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D(LAST)(tokens)))


def positions(values, data_format):
    values = ops.convert_to_numpy(values)
    values = np.moveaxis(values, 1, -1) if data_format == FIRST else values
    return values.reshape(len(values), -1, values.shape[-1])


def moved(x, data_format):
    return np.moveaxis(x, -1, 1) if data_format == FIRST else x


@pytest.mark.parametrize("kind", ["image", "sequence"])
@pytest.mark.parametrize("formats", [(LAST, FIRST), (FIRST, FIRST), (LAST, LAST)])
def test_each_model_has_its_own(kind, formats, rng):
    student, teacher = network(2, formats[0], kind), network(4, formats[1], kind)
    x = rng.normal(size=(2, 8, 4, 3) if kind == "image" else (2, 8, 3)).astype("float32")
    hint = features.Hint("map", "map")
    sdd = ScaleDecoupledKD("map", "map", scales=(1, 2))
    inputs = {}
    if formats[0] != formats[1]:
        inputs["teacher_inputs"] = lambda x: ops.moveaxis(x, -1, 1)
    distiller = keras_ats.Distiller(teacher, student, **inputs)
    distiller.compile("sgd", kd_loss=[hint, sdd], kd_weight=[1.0, 1.0], student_weight=0.0)
    (projector,) = hint.projectors
    assert projector.kernel.shape == (2, 4)
    said = [
        positions(model.layers[0](moved(x, one)), one)
        for model, one in zip((student, teacher), formats, strict=True)
    ]
    expected = np.mean((ops.convert_to_numpy(projector(said[0])) - said[1]) ** 2)
    logs = distiller.train_on_batch(moved(x, formats[0]), np.zeros(2, int), return_dict=True)
    np.testing.assert_allclose(logs["hint"], expected, rtol=1e-5)


def test_tokens_have_their_channels_last(rng):
    """Beside a map whose channels come first, in one loss."""
    student, teacher = network(2, FIRST), transformer()
    hint = features.Hint("map", "map", pool=True)
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=hint, kd_weight=1.0, student_weight=0.0)
    assert hint.projectors[0].kernel.shape == (2, 5)


def test_a_model_of_both_kinds_must_be_told():
    inputs = keras.Input((4, 4, 4))
    values = layers.Conv2D(4, 1, data_format=FIRST)(inputs)
    values = layers.Conv2D(4, 1, data_format=LAST, name="map")(values)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(values)))
    distiller = keras_ats.Distiller(model, keras.models.clone_model(model))
    with pytest.raises(ValueError, match=r"of the student: .*'map'.*Pass data_format="):
        distiller.compile(kd_loss=features.Hint("map", "map"))
    distiller.compile(kd_loss=features.Hint("map", "map", data_format=LAST))


def test_regions_need_positions():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="hidden"), layers.Dense(3, name="logits")]
    )
    distiller = keras_ats.Distiller(model, keras.models.clone_model(model))
    with pytest.raises(ValueError, match=r"has positions.*student's 'hidden' of shape"):
        distiller.compile(kd_loss=ScaleDecoupledKD("hidden", "hidden"))
