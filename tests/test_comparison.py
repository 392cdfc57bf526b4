"""`compare` and `search_temperatures`: the same budget, the same seeds, kept when done."""

import json

import keras
import models
import numpy as np
import pytest
from backends import on_one_backend

import keras_ats
from keras_ats import Distiller, compare, losses, search_temperatures
from keras_ats.recipes import Comparison, TemperatureSearch


def build_student():
    return models.sequential(softmax=True)


def sgd():
    return keras.optimizers.SGD(0.2, 0.9)


# One batch: how `fit` shuffles is not the same in a first `fit` and in a later one.
OPTIONS = {"epochs": 2, "batch_size": 24, "optimizer": sgd, "verbose": False}


@pytest.fixture
def data(rng):
    return models.features(rng, 24), models.features(rng, 24)


def by_hand(seed, train, test, teacher=None, kd_loss=None):
    """A training by itself, as a user would write it."""
    keras.utils.set_random_seed(seed)
    student = build_student()
    if teacher is None:
        model = student
        model.compile(sgd(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    else:
        model = Distiller(teacher, student)
        model.compile(sgd(), kd_loss=kd_loss, metrics=["accuracy"])
    keras.utils.set_random_seed(seed)
    model.fit(*train, epochs=2, batch_size=24, verbose=0)
    return model.evaluate(*test, verbose=0, return_dict=True)


def test_each_run_is_that_of_a_script_and_a_stopped_comparison_goes_on(data, tmp_path):
    train, test = data
    teacher = models.sequential(16)
    kd_loss = losses.AsymmetricTemperatureKD(4, 2)
    arguments = (teacher, build_student, train, test, {"ATS": kd_loss})
    part = compare(*arguments, seeds=[5], metric="loss", folder=tmp_path, **OPTIONS)
    whole = compare(*arguments, seeds=[5, 6], metric="loss", folder=tmp_path, **OPTIONS)
    for name in ("student alone", "ATS"):
        assert whole.values[name][0] == part.values[name][0]
    for index, seed in enumerate((5, 6)):
        alone = by_hand(seed, train, test)["loss"]
        np.testing.assert_allclose(whole.values["student alone"][index], alone, rtol=1e-3)
    distilled = by_hand(6, train, test, teacher, losses.AsymmetricTemperatureKD(4, 2))["loss"]
    np.testing.assert_allclose(whole.values["ATS"][1], distilled, rtol=1e-4)
    with pytest.raises(ValueError, match=r"results of other settings.*epochs"):
        compare(*arguments, metric="loss", folder=tmp_path, **OPTIONS | {"epochs": 3})
    kept = json.loads((tmp_path / "comparison.json").read_text())["runs"]
    assert set(kept) == {f"{name} / seed {s}" for name in ("student alone", "ATS") for s in (5, 6)}


@on_one_backend("what is run is tested on each")
def test_students_of_one_seed_see_the_same_batches(data):
    train, test = data
    same = {name: losses.TemperatureKD(4.0) for name in ("first", "second")}
    options = {**OPTIONS, "batch_size": 5, "seeds": [3, 4, 3 + 4], "metric": "loss"}
    result = compare(models.sequential(16), models.stochastic, train, test, same, **options)
    np.testing.assert_array_equal(result.values["first"], result.values["second"])
    assert len(set(result.values["first"])) == 3


@on_one_backend("what is run is tested on each")
def test_search_tries_each_pair_once_and_goes_on(data, tmp_path, monkeypatch):
    train, validation = data
    options = {
        "correct_temperatures": [2.0, 8.0],
        "wrong_temperatures": [1.0, 4.0],
        "seeds": [0],
        "metric": "loss",
        "folder": tmp_path,
        **OPTIONS,
    }
    teacher = models.sequential(16)
    found = search_temperatures(teacher, build_student, train, validation, **options)
    assert set(found.values) == {(2.0, 1.0), (8.0, 1.0), (8.0, 4.0)}
    for pair, (value,) in found.values.items():
        kd_loss = losses.AsymmetricTemperatureKD(*pair)
        expected = by_hand(0, train, validation, teacher, kd_loss)["loss"]
        np.testing.assert_allclose(value, expected, rtol=1e-4, err_msg=str(pair))
    assert found.best == max(found.means, key=found.means.get)
    assert "student alone" in str(found)
    monkeypatch.setattr(Distiller, "fit", None)  # Nothing is trained again.
    again = search_temperatures(teacher, build_student, train, validation, **options)
    assert again.values == found.values


@on_one_backend("numbers and figures")
def test_tables_and_figures(tmp_path):
    values = {"student alone": [0.80, 0.84, 0.82], "ATS": [0.83, 0.85, 0.82]}
    result = Comparison(values, [0, 1, 2], "accuracy")
    gaps = np.array([0.03, 0.01, 0.0])
    mean, error = result.difference("ATS")
    np.testing.assert_allclose([mean, error], [gaps.mean(), gaps.std(ddof=1) / 3**0.5])
    text = str(result)
    assert "+0.0133 ± 0.0088" in text
    assert "2 of 3" in text
    assert json.loads(json.dumps(result.to_dict()))["values"] == values
    single = Comparison({"student alone": [0.8], "ATS": [0.9]}, [0], "accuracy")
    assert "one seed" in str(single)
    assert np.isnan(single.difference("ATS")[1])
    with pytest.raises(ValueError, match="`method` was not compared"):
        result.difference("KD")
    result.plot().savefig(tmp_path / "comparison.png", dpi=40)
    search = TemperatureSearch({(4.0, 2.0): [0.9], (4.0, 4.0): [0.8]}, [0.7], "accuracy")
    assert search.best == (4.0, 2.0)
    search.plot().savefig(tmp_path / "map.png", dpi=40)
    labels = np.arange(12) % 3
    logits = {name: scale * np.eye(3)[labels] for name, scale in (("small", 2.0), ("large", 9.0))}
    report = keras_ats.diagnose(logits, labels, verbose=False)
    gain = keras_ats.diagnostics.plot_student_gain(report, {"small": 0.02, "large": 0.01})
    assert gain.axes[0].lines[0].get_xdata()[0] == report.teachers["small"].correct_logit
    capacity = keras_ats.diagnostics.plot_capacity([1, 2], {"s": [0.8, 0.7]}, {"s": [0.8, 0.9]})
    assert [line.get_linestyle() for line in capacity.axes[0].lines] == ["-", "--"]


@on_one_backend("errors come first")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": []}, ValueError, "`seeds` must be different numbers"),
        ({"seeds": [1, 1]}, ValueError, "`seeds` must be different numbers"),
        ({"optimizer": keras.optimizers.SGD}, None, ""),
        ({"optimizer": 3}, TypeError, "`optimizer` must be the name"),
        ({"kd_losses": {}}, TypeError, "`kd_losses` must be a dict"),
        ({"metric": "acuracy", "metrics": ["accuracy"]}, ValueError, "`metric` is not among"),
    ],
)
def test_what_cannot_be_compared_is_said(options, error, message, data):
    train, test = data
    arguments = {"epochs": 1, "seeds": [0], "verbose": False, **options}
    if error is None:
        assert compare(models.linear(), build_student, train, test, **arguments)
        return
    with pytest.raises(error, match=message):
        compare(models.linear(), build_student, train, test, **arguments)


def test_the_student_alone_sees_what_its_teachers_students_see(data):
    """The logits of a cache stay behind, and what is augmented is augmented for it too."""
    (x, y), test = data
    cache = keras_ats.teachers.CachedTeacher.from_arrays(np.zeros((24, models.CLASSES), "float32"))
    options = OPTIONS | {"seeds": [5], "metric": "loss"}
    plain = compare(models.sequential(16), build_student, (x, y), test, **options)
    cached = compare(cache, build_student, cache.attach((x, y)), test, **options)
    assert cached.values["student alone"] == pytest.approx(plain.values["student alone"], rel=1e-5)
    blind = compare(
        models.sequential(16),
        build_student,
        (x, y),
        test,
        augmentation=lambda inputs: 0.0 * inputs,
        **options,
    )
    # Nothing can be seen.
    assert blind.values["student alone"] != pytest.approx(plain.values["student alone"], rel=1e-4)
