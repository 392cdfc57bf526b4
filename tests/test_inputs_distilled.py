"""What each model is shown of a batch: its named entries, or inputs of the teacher's own."""

import keras
import models
import numpy as np
import pytest
from backends import cases_in_turn
from keras import layers

import keras_ats
from keras_ats import losses

pytestmark = cases_in_turn("entries are picked by name before a backend sees a tensor")


@keras.saving.register_keras_serializable(package="keras_ats_tests")
def doubled(x):
    """What the teacher was trained on."""
    return 2.0 * x


def model(names, end="softmax", form=dict, units=3):
    """A Dense layer over the sum of inputs, by the names that they have in the data."""
    inputs = {name: keras.Input((models.FEATURES,), name=name) for name in names}
    total = layers.Add()(list(inputs.values())) if len(inputs) > 1 else inputs[names[0]]
    given = {dict: inputs, list: list(inputs.values()), None: inputs[names[0]]}[form]
    return keras.Model(given, layers.Dense(units, end, name="o")(total))


def data(rng, names=("image", "table")):
    x = {name: rng.normal(size=(16, models.FEATURES)).astype("float32") for name in names}
    return x, rng.integers(models.CLASSES, size=16)


def logits(model, x):
    return models.dense_logits(model, x, "o")


def compiled(teacher, student, **given):
    distiller = keras_ats.Distiller(teacher, student, **given)
    distiller.compile(
        "sgd", "auto", losses.TemperatureKD(2.0), evaluate_teacher=True, run_eagerly=True
    )
    return distiller


def check(distiller, x, y, z, f):
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["student_loss"] == pytest.approx(
        models.cross_entropy(models.one_hot(y), z).mean(), rel=1e-5
    )
    assert logs["kd_loss"] == pytest.approx(models.kd(z, f, 2.0).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("of_teacher", "of_student"),
    [
        (("table",), ("image",)),
        (("image",), ("table",)),
        (("image", "table"), ("table",)),
        (("table", "image"), ("table", "image")),
    ],
)
@pytest.mark.parametrize("form", [dict, list, None])
def test_entries_are_picked_by_name(of_teacher, of_student, form, rng):
    x, y = data(rng)
    forms = [None if len(names) == 1 else form or list for names in (of_teacher, of_student)]
    teacher, student = model(of_teacher, form=forms[0]), model(of_student, form=forms[1])
    distiller = compiled(teacher, student)
    seen = [sum(x[name] for name in names) for names in (of_teacher, of_student)]
    check(distiller, x, y, logits(student, seen[1]), logits(teacher, seen[0]))
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()
    probabilities = np.exp(models.log_softmax(logits(student, seen[1])))
    np.testing.assert_allclose(distiller.predict(x, verbose=0), probabilities, atol=1e-5)


def test_an_entry_that_is_missing_is_named(rng):
    x, y = data(rng, ("image", "sound"))
    with pytest.raises(ValueError, match=r"The teacher.*\['image', 'sound'\].*\['table'\]"):
        compiled(model(["table"], form=None), model(["image"], form=None)).fit(x, y, verbose=0)


class TestInputsOfTheTeachersOwn:
    def models(self, names=("image",)):
        return model(names, form=None), model(names, form=None)

    def test_a_function(self, rng, tmp_path):
        x, y = data(rng)
        teacher, student = self.models()
        distiller = compiled(teacher, student, teacher_inputs=doubled)
        image = x["image"]
        check(distiller, image, y, logits(student, image), logits(teacher, 2 * image))
        distiller.fit(image, y, verbose=0)

        distiller.save(tmp_path / "distiller.keras")
        loaded = keras.saving.load_model(tmp_path / "distiller.keras")
        assert loaded.teacher_inputs is doubled
        check(loaded, image, y, logits(student, image), logits(teacher, 2 * image))

    def test_a_function_of_another_size(self, rng):
        x, y = rng.normal(size=(8, 4, 4, 2)).astype("float32"), rng.integers(3, size=8)

        def build(size):
            inputs = keras.Input((size, size, 2))
            pooled = layers.GlobalAveragePooling2D()(inputs)
            return keras.Model(inputs, layers.Dense(3, name="o")(pooled))

        def larger(images):
            return keras.ops.repeat(keras.ops.repeat(images, 2, axis=1), 2, axis=2)

        teacher, student = build(8), build(4)
        with pytest.raises(ValueError, match=r"take different inputs.*teacher_inputs="):
            keras_ats.Distiller(teacher, student)
        distiller = compiled(teacher, student, teacher_inputs=larger)
        pooled = x.mean(axis=(1, 2))
        check(distiller, x, y, logits(student, pooled), logits(teacher, pooled))
        assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()

    def test_a_key(self, rng, tmp_path):
        x, y = data(rng, ("student's", "teacher's"))
        teacher, student = self.models()
        distiller = compiled(teacher, student, teacher_inputs="teacher's")
        z, f = logits(student, x["student's"]), logits(teacher, x["teacher's"])
        check(distiller, x, y, z, f)
        distiller.save(tmp_path / "distiller.keras")
        check(keras.saving.load_model(tmp_path / "distiller.keras"), x, y, z, f)
        assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()

    @pytest.mark.parametrize("form", ["dict", "array"])
    def test_evaluate_and_predict_go_without_the_teachers_part(self, form, rng):
        x, y = data(rng, ("image", "teacher's"))
        teacher, student = self.models()
        distiller = keras_ats.Distiller(teacher, student, teacher_inputs="teacher's")
        distiller.compile("sgd", "auto", losses.TemperatureKD(), run_eagerly=True)
        distiller.fit(x, y, verbose=0)
        given = {"image": x["image"]} if form == "dict" else x["image"]
        z = logits(student, x["image"])
        expected = models.cross_entropy(models.one_hot(y), z).mean()
        assert distiller.evaluate(given, y, verbose=0) == pytest.approx(expected, rel=1e-5)
        probabilities = np.exp(models.log_softmax(z))
        np.testing.assert_allclose(distiller.predict(given, verbose=0), probabilities, atol=1e-5)
        with pytest.raises(ValueError, match=r"no inputs for the teacher.*key 'teacher's'"):
            distiller.fit(given, y, verbose=0)

    def test_several_inputs_of_the_student(self, rng):
        x, y = data(rng, ("image", "table", "teacher's"))
        teacher = model(["sound"], form=None)
        student = model(["table", "image"], form=list)
        distiller = compiled(teacher, student, teacher_inputs="teacher's")
        seen = x["table"] + x["image"]
        check(distiller, x, y, logits(student, seen), logits(teacher, x["teacher's"]))
