"""Several distillation losses at once, and models with several outputs."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats.losses import (
    AsymmetricTemperatureKD,
    CurriculumTemperatureKD,
    LogitMSE,
    TemperatureKD,
    get,
)

pytestmark = cases_in_turn("a list of losses is a sum")


def two_headed(width, as_list=False):
    """A softmax head and a logits head, as dict or list."""
    inputs = keras.Input((models.FEATURES,))
    hidden = layers.Dense(width, "tanh")(inputs)
    # A list goes by the layers' names, a dict by its keys.
    names = ("kind", "size") if as_list else ("first_layer", "second_layer")
    kind = layers.Dense(models.CLASSES, "softmax", name=names[0])(hidden)
    size = layers.Dense(4, name=names[1])(hidden)
    return keras.Model(inputs, [kind, size] if as_list else {"kind": kind, "size": size})


def test_a_list_is_the_weighted_sum_of_its_parts(rng):
    x, y = models.features(rng)
    teacher, student = models.sequential(8), models.sequential(4)
    parts = [AsymmetricTemperatureKD(4, 2), LogitMSE()]
    expected = [
        float(
            keras.ops.convert_to_numpy(
                part(models.outputs(student, x), models.outputs(teacher, x), labels=y)
            )
        )
        for part in parts
    ]
    distiller = keras_ats.Distiller(teacher, student)
    distiller.compile("sgd", kd_loss=parts, kd_weight=[0.3, 0.1])
    logs = distiller.train_on_batch(x, y, return_dict=True)

    np.testing.assert_allclose(logs["asymmetric_temperature_kd"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(logs["logit_mse"], expected[1], rtol=1e-5)
    weighted = 0.3 * expected[0] + 0.1 * expected[1]
    np.testing.assert_allclose(logs["kd_loss"], weighted / 0.4, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.6 * logs["student_loss"] + weighted, rtol=1e-5)


def test_one_weight_is_shared_evenly(rng):
    x, y = models.features(rng)
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    distiller.compile("sgd", kd_loss=["temperature_kd", TemperatureKD(2.0)], kd_weight=0.8)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert {"temperature_kd", "temperature_kd_1"} <= set(logs)
    mean = (logs["temperature_kd"] + logs["temperature_kd_1"]) / 2
    np.testing.assert_allclose(logs["kd_loss"], mean, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], 0.2 * logs["student_loss"] + 0.8 * mean, rtol=1e-5)


@pytest.mark.parametrize("as_list", [False, True], ids=["dict", "list"])
def test_each_output_has_its_own_loss(rng, as_list, tmp_path):
    x, kinds = models.features(rng)
    sizes = rng.integers(0, 4, len(x))
    y = [kinds, sizes] if as_list else {"kind": kinds, "size": sizes}
    distiller = keras_ats.Distiller(two_headed(8, as_list), two_headed(3, as_list))
    distiller.compile(
        "sgd",
        kd_loss={"kind": AsymmetricTemperatureKD(4, 2), "size": TemperatureKD(2.0)},
        kd_weight={"kind": 0.2, "size": 0.4},
    )
    history = distiller.fit(x, y, epochs=2, batch_size=8, verbose=0, validation_data=(x, y)).history
    parts = np.array([history["kind_kd_loss"], history["size_kd_loss"]])
    np.testing.assert_allclose(history["kd_loss"], (parts[0] + 2 * parts[1]) / 3, rtol=1e-5)
    assert not any("kd_loss" in name for name in history if name.startswith("val_"))

    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    expected, actual = (
        model.train_on_batch(x, y, return_dict=True) for model in (distiller, loaded)
    )
    assert actual == pytest.approx(expected, rel=1e-6)


def test_several_outputs_need_a_loss_each():
    distiller = keras_ats.Distiller(two_headed(8), two_headed(3))
    with pytest.raises(ValueError, match=r"several outputs, \['kind', 'size'\]"):
        distiller.compile(kd_loss=TemperatureKD())
    with pytest.raises(ValueError, match=r"does not have. Received: \['colour'\]"):
        distiller.compile(kd_loss={"colour": TemperatureKD()})


@pytest.mark.parametrize(
    ("kd_loss", "kd_weight", "message"),
    [
        ([], 0.5, "at least one loss"),
        ([TemperatureKD()], [0.3, 0.3], "one weight for each loss"),
        ([TemperatureKD(), LogitMSE()], [0.8, 0.8], "sum of `kd_weight`"),
        ([TemperatureKD()], [0.0], "above 0"),
        ("no_such_kd", 0.5, "Expected one of"),
        (None, 0.5, "needs a distillation loss"),
    ],
)
def test_what_does_not_fit_is_refused(kd_loss, kd_weight, message):
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    with pytest.raises(ValueError, match=message):
        distiller.compile(kd_loss=kd_loss, kd_weight=kd_weight)


def test_learned_temperatures_train_and_are_saved_with_the_distiller_only(rng, tmp_path):
    x, y = models.features(rng)
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4, name="student"))
    # At low temperatures the loss depends on them visibly.
    rules = [keras_ats.temperatures.Learned(raw_temperature=-3.0) for _ in range(2)]
    distiller.compile("sgd", kd_loss=[CurriculumTemperatureKD(rule) for rule in rules])
    before = len(distiller.student.trainable_variables)
    assert len(distiller.trainable_variables) == before + 2
    gradients_do_not_pile_up(distiller, x, y)

    raws = [part.temperature_rule.raw_temperature for part in distiller.kd_loss]
    values = [float(keras.ops.convert_to_numpy(raw.value)) for raw in raws]
    assert all(value != -3.0 for value in values)
    assert values[0] == pytest.approx(values[1])
    distiller.save(tmp_path / "distiller.keras")
    parts = keras.saving.load_model(tmp_path / "distiller.keras").kd_loss
    loaded = [keras.ops.convert_to_numpy(part.temperature_rule.raw_temperature) for part in parts]
    np.testing.assert_allclose(loaded, values, rtol=1e-7)
    distiller.student.save(tmp_path / "student.keras")
    student = keras.saving.load_model(tmp_path / "student.keras")
    assert len(student.variables) == before


def gradients_do_not_pile_up(distiller, x, y):
    """Two small steps on one batch move a learned temperature by about as much."""
    steps = []
    for _ in range(2):
        distiller.train_on_batch(x, y)
        raw = distiller.kd_loss[0].temperature_rule.raw_temperature
        steps.append(float(keras.ops.convert_to_numpy(raw.value)))
    first, second = steps[0] + 3.0, steps[1] - steps[0]
    assert second == pytest.approx(first, rel=0.2)


def test_look_up_by_name_config_and_instance():
    loss = AsymmetricTemperatureKD(5, 3)
    assert get(loss) is loss
    assert get(None) is None
    assert isinstance(get("asymmetric_temperature_kd"), AsymmetricTemperatureKD)
    assert isinstance(get("LogitMSE"), LogitMSE)
    assert isinstance(get("dist"), keras_ats.losses.DIST)
    same = get(keras.saving.serialize_keras_object(loss))
    assert same.get_config() == loss.get_config()
    with pytest.raises(TypeError, match=r"Call it: TemperatureKD\(\.\.\.\)"):
        get(TemperatureKD)
    with pytest.raises(TypeError, match="Received: 3"):
        get(3)


def test_a_list_of_losses_survives_saving(tmp_path):
    distiller = keras_ats.Distiller(models.sequential(8), models.sequential(4))
    losses = [TemperatureKD(3.0), "logit_mse"]
    distiller.compile("sgd", kd_loss=losses, kd_weight=[0.25, 0.5])
    distiller.save(tmp_path / "distiller.keras")
    same = keras.saving.load_model(tmp_path / "distiller.keras")
    assert [part.get_config() for part in same.kd_loss] == [
        part.get_config() for part in distiller.kd_loss
    ]
    assert same.get_compile_config()["kd_weight"] == pytest.approx([0.25, 0.5])
    assert float(same.kd_weight.value) == 0.75
