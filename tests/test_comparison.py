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
    assert found.best == min(found.means, key=found.means.get)
    assert "student alone" in str(found)
    monkeypatch.setattr(Distiller, "fit", None)  # Nothing is trained again.
    again = search_temperatures(teacher, build_student, train, validation, **options)
    assert again.values == found.values


@on_one_backend("numbers and figures")
def test_tables_and_figures(tmp_path):
    values = {"student alone": [0.80, 0.84, 0.79], "ATS": [0.83, 0.85, 0.79]}
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
        ({"optimizer": keras.optimizers.SGD, "seeds": np.arange(1)}, None, ""),
        ({"optimizer": 3}, TypeError, "`optimizer` must be the name"),
        ({"kd_losses": {}}, TypeError, "`kd_losses` must be a dict"),
        ({"metric": "acuracy", "metrics": ["accuracy"]}, ValueError, "`metric` is not among"),
        ({"build_student": models.linear(name="s")}, TypeError, "a function that .* model 's'"),
        ({"build_student": lambda: None}, TypeError, "`build_student` must return"),
        (
            {"build_student": lambda: keras.Sequential([keras.layers.Dense(3)])},
            ValueError,
            "whose weights exist",
        ),
        (
            {
                "build_student": iter(
                    [*(models.linear() for _ in range(3)), build_student()]
                ).__next__
            },
            ValueError,
            "the same network in each call",
        ),
        ({"train": [np.zeros((2, 5)), np.zeros(2)]}, TypeError, r"a tuple \(x, y\).* type list"),
        ({"test": np.zeros((2, 5))}, TypeError, r"a tuple \(x, y\).* type ndarray"),
        ({"mode": "more"}, ValueError, "`mode` must be one of"),
    ],
)
def test_what_cannot_be_compared_is_said(options, error, message, data):
    train, test = data
    arguments = {"build_student": build_student, "train": train, "test": test, **options}
    arguments |= {"epochs": 1, "verbose": False, "seeds": options.get("seeds", [0])}
    if error is None:
        assert compare(models.linear(), **arguments)
        return
    with pytest.raises(error, match=message):
        compare(models.linear(), **arguments)


@on_one_backend("which loss is for which output")
def test_models_with_several_outputs(data):
    (x, y), _ = data
    labelled = x, {"kind": y, "size": y % 2}
    kd_losses = {"KD": {"kind": losses.TemperatureKD(4.0), "size": losses.TemperatureKD(2.0)}}
    arguments = models.two_outputs(), models.two_outputs, labelled, labelled
    options = {**OPTIONS, "seeds": [0]}
    result = compare(*arguments, kd_losses, metric="kind_accuracy", **options)
    assert list(result.values) == ["student alone", "KD"]
    kd_loss = {"kind": losses.AsymmetricTemperatureKD(), "size": losses.TemperatureKD(2.0)}
    grids = {"correct_temperatures": [2.0, 8.0], "wrong_temperatures": [1.0]}
    found = search_temperatures(*arguments, kd_loss=kd_loss, metric="loss", **grids, **options)
    assert len({each[0] for each in found.values.values()}) == 2
    assert found.best == min(found.means, key=found.means.get)
    for call in (compare, search_temperatures):
        with pytest.raises(ValueError, match=r"several outputs.*AsymmetricTemperatureKD"):
            call(*arguments, **options)


@on_one_backend("the loss of a compile")
def test_the_student_alone_learns_what_its_output_is_for(data):
    """A linear head does not say whether it is for classes or for values; the loss does."""
    (x, y), _ = data
    values = x, np.stack([y, y - 1.0, x[:, 0]], axis=-1).astype("float32")
    options = {**OPTIONS, "metric": "mae", "seeds": [0]}
    kd_losses = {"KD": losses.RegressionKD()}
    found = compare(models.linear(), models.linear, values, values, kd_losses, **options)
    told = compare(models.linear(), models.linear, values, values, kd_losses, loss="mse", **options)
    np.testing.assert_allclose(found.values["student alone"], told.values["student alone"])
    assert "less mae is better" in str(found)


@on_one_backend("numbers in a table")
def test_less_may_be_better_and_what_is_no_number_is_never_best():
    values = {"student alone": [0.3, 0.3], "KD": [0.2, 0.4], "ATS": [0.1, np.nan]}
    result = Comparison(values, [0, 1], "size_mae")
    for mode, metric, count in (("auto", "mse", 1), ("auto", "auc", 1), ("min", "own", 2)):
        pair = {"student alone": [0.3, 0.3], "KD": [0.2, 0.4 if mode == "auto" else 0.1]}
        assert f"{count} of 2" in str(Comparison(pair, [0, 1], metric, mode))
    lines = str(result).splitlines()
    assert lines[4].split()[:2] == ["ATS", "nan"]
    assert lines[4].endswith("1 of 2")
    assert "nan: the loss of a training" in lines[-1]
    json.dumps(result.to_dict(), allow_nan=False)
    means = {(4.0, 2.0): [np.nan], (4.0, 4.0): [0.8], (8.0, 4.0): [0.7]}
    assert TemperatureSearch(means, [0.7], "accuracy").best == (4.0, 4.0)
    lower = TemperatureSearch(means, [0.7], "kd_loss")
    assert lower.best == (8.0, 4.0)
    assert "nan" in str(lower).splitlines()[-2]
    frame = lower.plot().axes[0].lines[0].get_xdata()
    assert 0.5 < frame.mean() < 1.5
    with pytest.raises(ValueError, match="No pair is best"):
        _ = TemperatureSearch({(4.0, 2.0): [np.nan]}, [0.7], "accuracy").best


@on_one_backend("what a training comes to")
def test_a_training_that_diverged_comes_to_no_number(data):
    (x, y), test = data
    unsound = np.where(np.arange(24)[:, None] == 3, np.nan, x), y
    result = compare(models.linear(), models.linear, unsound, test, **OPTIONS | {"seeds": [0]})
    assert all(np.isnan(each).all() for each in result.values.values())


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


def spy_on_alone(monkeypatch, values):
    """Fits nothing; notes what `fit` is given."""

    def fit(self, **arguments):
        values.append((self, arguments))

    monkeypatch.setattr(Distiller, "fit", fit)


@on_one_backend("the arguments of a fit")
def test_sample_weights_count(data, monkeypatch):
    (x, y), test = data
    seen = []
    spy_on_alone(monkeypatch, seen)
    weights = np.arange(24.0)
    compare(models.linear(), build_student, (x, y, weights), test, seeds=[0], verbose=False)
    assert [arguments["sample_weight"] is weights for _, arguments in seen] == [True, True]
    assert all("shuffle" not in arguments for _, arguments in seen)


@on_one_backend("the arguments of an evaluation")
def test_arrays_are_evaluated_in_batches_of_the_same_size(data, monkeypatch):
    import tensorflow as tf

    sizes, evaluate = [], Distiller.evaluate

    def noted(distiller, *arguments, **options):
        sizes.append(options["batch_size"])
        return evaluate(distiller, *arguments, **options)

    monkeypatch.setattr(Distiller, "evaluate", noted)
    train, test = data
    batches = tf.data.Dataset.from_tensor_slices(test).batch(7)
    for shown in (test, batches):
        compare(models.sequential(16), build_student, train, shown, seeds=[0], **OPTIONS)
    assert sizes == [24, 24, None, None]


@on_one_backend("what is shown to whom")
def test_a_cache_teaches_and_the_student_alone_does_without(data, tmp_path):
    train, test = data
    teacher = models.sequential(16)
    cache = keras_ats.cache_teacher(teacher, train, tmp_path / "cache", dtype="float32", verbose=0)
    options = {**OPTIONS, "seeds": [0], "metric": "loss"}
    cached = compare(cache, build_student, cache.attach(train), test, **options)
    live = compare(teacher, build_student, train, test, **options)
    for name, values in live.values.items():
        np.testing.assert_allclose(cached.values[name], values, rtol=1e-5, err_msg=name)


@on_one_backend("what is shown to whom")
def test_both_students_see_the_augmented_batches(data):
    seen = []

    def note(x):
        seen.append(x)
        return x

    train, test = data
    kd_losses = {"KD": losses.TemperatureKD(4.0)}
    options = {"seeds": [0], "verbose": False, "batch_size": 24, "augmentation": note}
    compare(models.linear(), build_student, train, test, kd_losses, **options)
    assert len([x for x in seen if type(x).__module__.startswith("torch")]) == 2


@on_one_backend("the temperatures of a loss")
def test_a_sigmoid_head_is_searched_with_its_own_loss(rng):
    def build():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])

    x, y = rng.normal(size=(24, 4)).astype("float32"), np.arange(24)[:, None] % 2
    grids = {"correct_temperatures": [2.0], "wrong_temperatures": [1.0, 2.0], "seeds": [0]}
    arguments = build(), build, (x, y), (x, y)
    found = search_temperatures(
        *arguments, kd_loss=losses.BernoulliKD(), metric="loss", **grids, **OPTIONS
    )
    assert len({each[0] for each in found.values.values()}) == 2
    with pytest.raises(TypeError, match="`kd_loss` must have two temperatures"):
        search_temperatures(*arguments, kd_loss=losses.TemperatureKD(), **grids, **OPTIONS)


@on_one_backend("errors come first")
def test_nothing_is_trained_before_an_error(data, tmp_path, monkeypatch):
    train, test = data
    teacher = models.linear()
    options = {**OPTIONS, "seeds": [0]}
    compare(teacher, build_student, train, test, folder=tmp_path, **options)
    monkeypatch.setattr(Distiller, "fit", None)
    search = {"correct_temperatures": [2.0], "wrong_temperatures": [1.0]}
    tf = pytest.importorskip("tensorflow")
    endless = tf.data.Dataset.from_tensor_slices(train).batch(8).repeat()
    for change, error, message in (
        ({"kd_losses": {"no": losses.BernoulliKD(4, 2)}}, ValueError, "for softmax heads|sigmoid"),
        ({"metric": "acuracy", "metrics": ["accuracy"]}, ValueError, "`metric` is not among"),
        ({"train": (batch for batch in [train])}, TypeError, "`train` must be data that can be"),
        ({"train": endless}, ValueError, "`train` never ends.*steps_per_epoch"),
        ({"test": endless}, ValueError, "`test` never ends"),
        ({"train": (*train, None, None)}, ValueError, "a tuple of 4"),
    ):
        arguments = {"train": train, "test": test, **options, **change}
        with pytest.raises(error, match=message):
            compare(teacher, build_student, **arguments)
    for name, changed in {
        "batch_size": 12,
        "kd_weight": 0.4,
        "student_weight": 0.4,
        "metric": "loss",
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
    }.items():
        arguments = {"folder": tmp_path, **options, name: changed}
        with pytest.raises(ValueError, match=rf"(other settings|another).*{name}"):
            compare(teacher, build_student, train, test, **arguments)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for content in ('{"runs": {', "[]", '{"runs": {}}'):
        (damaged / "comparison.json").write_text(content)
        with pytest.raises(ValueError, match=r"not as it was written.*comparison\.json"):
            compare(teacher, build_student, train, test, folder=damaged, **options)
    with pytest.raises(ValueError, match=r"another student"):
        compare(teacher, models.linear, train, test, folder=tmp_path, **options)
    other = (train[0] + 1, train[1])
    with pytest.raises(ValueError, match=r"another train"):
        compare(teacher, build_student, other, test, folder=tmp_path, **options)
    binary = keras.Sequential([keras.Input(train[0].shape[1:]), keras.layers.Dense(1, "sigmoid")])
    with pytest.raises(ValueError, match=r"BernoulliKD"):
        search_temperatures(
            binary, lambda: keras.models.clone_model(binary), train, test, **search, **options
        )


@on_one_backend("the steps of a fit")
def test_data_without_an_end_are_cut(data, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    train, test = data
    endless = tf.data.Dataset.from_tensor_slices(train).batch(8).repeat()
    seen = []
    spy_on_alone(monkeypatch, seen)
    options = {"steps_per_epoch": 3, "seeds": [0], "verbose": False, "metric": "loss"}
    compare(models.linear(), build_student, endless, test, **options)
    assert [arguments["steps_per_epoch"] for _, arguments in seen] == [3, 3]
    # Keras warns of its own default for such data.
    assert [arguments["shuffle"] for _, arguments in seen] == [False, False]


@on_one_backend("the loss of a compile")
def test_the_student_alone_has_labels_where_the_other_has_none(data):
    train, test = data
    options = {**OPTIONS, "seeds": [0], "metric": "accuracy"}
    arguments = models.sequential(16), build_student, train, test
    without = compare(*arguments, loss=None, kd_weight=1.0, **options)
    assert without.values["student alone"] == compare(*arguments, **options).values["student alone"]


@on_one_backend("errors come first")
def test_a_student_is_made_anew(data, monkeypatch):
    monkeypatch.setattr(Distiller, "fit", None)
    student = build_student()
    with pytest.raises(ValueError, match="`build_student` must make a new student"):
        compare(models.linear(), lambda: student, *data, **OPTIONS)
