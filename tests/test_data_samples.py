"""Samples in memory: what they accept, subsets, splits, statistics."""

import dataclasses
import math
import sys

import numpy as np
import pytest
from backends import cases_in_turn
from hypothesis import given
from hypothesis import strategies as st

from keras_ats import data
from keras_ats.data import Samples
from keras_ats.data.statistics import channel_statistics

pytestmark = cases_in_turn("samples are NumPy's")


def make(counts, shape=(4, 4, 3), **options):
    """Samples with `counts[c]` of each class c, mixed."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.integers(0, 256, (len(labels), *shape), np.uint8)
    return Samples.from_arrays(features, labels, **options)


def test_what_is_left_out_is_filled_in():
    samples = make([3, 2])
    assert samples.ids.tolist() == [0, 1, 2, 3, 4]
    assert samples.class_names == ("0", "1")
    assert (samples.labels.dtype, samples.ids.dtype) == (np.int32, np.int64)
    assert repr(samples) == "Samples('arrays': 5 images of shape (4, 4, 3), uint8, 2 classes)"


def test_labels_as_keras_datasets_have_them():
    assert Samples.from_arrays(np.zeros((2, 1), "float32"), [[1], [0]]).labels.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_statistics_are_numpys(dtype, rng):
    features = rng.integers(0, 256, (2500, 2, 3, 2)).astype(dtype)
    features[..., 1] //= 3
    scale = 255 if dtype == "uint8" else 1
    mean, std = channel_statistics(features)
    rows = features.reshape(-1, 2).astype("float64") / scale
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(std, rows.std(axis=0))


def test_a_constant_channel_can_be_divided_by():
    samples = Samples.from_arrays(np.full((4, 2, 2, 1), 51, np.uint8), [0, 1, 0, 1])
    assert (samples.mean, samples.std) == ((0.2,), (1.0,))


@given(
    counts=st.lists(st.integers(3, 12), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    draw=st.data(),
)
def test_subsets_are_balanced_and_nested(counts, seed, draw):
    samples = make(counts, shape=(1,))
    size = draw.draw(st.integers(1, 3 * len(counts)))
    subset = samples.subset(size, seed)
    found = np.bincount(subset.labels, minlength=len(counts))
    assert len(subset) == size
    assert np.ptp(found) <= 1
    assert subset.class_names == samples.class_names
    assert set(subset.ids) <= set(samples.subset(3 * len(counts), seed).ids)
    for place, sample in enumerate(subset.ids):
        assert subset.labels[place] == samples.labels[sample]
        np.testing.assert_array_equal(subset.features[place], samples.features[sample])


@given(
    counts=st.lists(st.integers(4, 20), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.75),
    seed=st.integers(0, 2**32),
)
def test_splits_are_stratified_and_disjoint(counts, fraction, seed):
    samples = make(counts, shape=(1,))
    if not round(fraction * len(samples)):
        return
    rest, part = samples.split(fraction, seed)
    assert len(part) == round(fraction * len(samples))
    assert sorted([*rest.ids, *part.ids]) == list(range(len(samples)))
    found = np.bincount(part.labels, minlength=len(counts))
    assert np.all(np.abs(found - fraction * np.array(counts)) < 1)


def test_a_whole_share_is_exact():
    rest, part = make([50] * 4).split(0.1)
    assert np.bincount(part.labels).tolist() == [5] * 4
    assert np.bincount(rest.labels).tolist() == [45] * 4
    assert (part.mean, part.std) == (rest.mean, rest.std)


def test_the_seed_decides():
    samples = make([50] * 4)
    for draw in (lambda seed: samples.subset(40, seed), lambda seed: samples.split(0.2, seed)[1]):
        np.testing.assert_array_equal(draw(1).ids, draw(1).ids)
        assert set(draw(1).ids) != set(draw(2).ids)


def test_ids_stay_through_subsets_of_splits():
    samples = make([20, 20], ids=np.arange(40)[::-1] * 10**10)
    part = samples.split(0.5)[1].subset(4)
    for sample, label in zip(part.ids, part.labels, strict=True):
        assert samples.labels[samples.ids == sample] == label


IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
NAN = math.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": IMAGES.astype("float64")}, "float64"),
        ({"features": IMAGES[:0], "labels": []}, "leading axis"),
        ({"features": IMAGES[..., :0]}, r"shape \(4, 8, 8, 0\)"),
        ({"features": np.full((4, 2), np.nan, "float32")}, "must be finite"),
        ({"features": np.array([[0.0, np.inf]] * 4, "float32")}, "must be finite"),
        ({"features": [[1], [1, 2]]}, "Features must be an array. Received: list"),
        ({"labels": [0, 1, 0]}, "4 class ids"),
        ({"labels": np.eye(4)}, "argmax"),
        ({"labels": [0, 1, 0, -1]}, "from 0 up"),
        ({"labels": [0, 1, 0, 2**32]}, "labels up to 4294967296"),
        ({"labels": [0, [1], 0, 1]}, "Labels must be an array. Received: list"),
        ({"ids": [0, 1, 2, 2]}, "4 different integers"),
        ({"ids": [0.0, 1.0, 2.0, 3.0]}, "float64"),
        ({"ids": np.array([0, 1, 2, 2**63], np.uint64)}, "uint64"),
        ({"ids": [0, [1], 2, 3]}, "`ids` must be an array. Received: list"),
        ({"class_names": ["one"]}, "1 class_names"),
        ({"kind": "audio"}, "kind='audio'"),
        ({"kind": np.array(["images", "images"])}, "kind=array"),
        ({"statistics": "published"}, "'arrays'"),
        ({"statistics": ((0, 0, 0), (1, 1, 0))}, "above 0"),
        ({"statistics": ((NAN, 0, 0), (1, 1, 1))}, "3 number"),
        ({"statistics": ((0, 0, 0), (1, 1, math.inf))}, "3 number"),
        ({"statistics": ((0, 0, 0), (1, 1, True))}, "3 number"),
        ({"statistics": ("abc", (1, 1, 1))}, "mean='abc'"),
        ({"statistics": (0, 1)}, "mean=0, std=1"),
        ({"statistics": (None, None)}, "mean=None"),
        ({"statistics": np.ones((2, 3))}, "or a tuple"),
    ],
)
def test_wrong_arrays(arguments, message):
    arguments = {"features": IMAGES, "labels": [0, 1, 0, 1]} | arguments
    with pytest.raises(ValueError, match=message):
        Samples.from_arrays(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": None}, "`name` must be a string.* name=None of type NoneType"),
        ({"name": ["arrays"]}, r"name=\['arrays'\] of type list"),
        ({"class_names": 2}, "`class_names` must be a sequence of strings.* class_names=2"),
        ({"class_names": "ab"}, "class_names='ab'"),
        ({"class_names": [0, 1]}, r"class_names=\[0, 1\]"),
    ],
)
def test_wrong_names(arguments, message):
    with pytest.raises(TypeError, match=message):
        Samples.from_arrays(IMAGES, [0, 1, 0, 1], **arguments)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("features", None, "Features must be uint8"),
        ("labels", [0, 1], "4 class ids"),
        ("ids", [0, 0, 1, 1], "4 different integers"),
        ("class_names", ("one",), "1 class_names"),
        ("mean", 0.5, "Mean and std need 3 number"),
        ("std", (1.0, 1.0, -1.0), "std must be above 0"),
        ("kind", None, "kind=None"),
    ],
)
def test_samples_made_without_from_arrays_are_checked_too(field, value, message):
    samples = Samples.from_arrays(IMAGES, [0, 1, 0, 1])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(samples, **{field: value})


def test_names_and_statistics_may_be_arrays():
    samples = Samples.from_arrays(
        IMAGES,
        [0, 1, 0, 1],
        class_names=np.array(["one", "two"]),
        statistics=(np.zeros(3, "float32"), [1, 1, 2]),
    )
    assert samples.class_names == ("one", "two")
    assert (samples.mean, samples.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 2.0))
    assert {type(number) for number in samples.mean + samples.std} == {float}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda samples: samples.subset(8), "needs 4 samples of class '1'. Received: 2 of 6"),
        (lambda samples: samples.subset(2, seed=-1), "seed=-1"),
        (lambda samples: samples.split(0.0), "fraction=0.0"),
        (lambda samples: samples.split(NAN), "fraction=nan of 6 samples"),
        (lambda samples: samples.split(math.inf), "fraction=inf"),
        (lambda samples: samples.split(0.01), "one sample"),
        (lambda samples: samples.split(0.9), "all samples of class '1'"),
        (lambda samples: samples.steps(0), "batch_size=0"),
        (lambda samples: samples.steps(7, drop_remainder=True), "no whole batch"),
        (lambda samples: samples.batches(7, drop_remainder=True), "no whole batch"),
        (lambda samples: samples.batches(2, first_epoch=-1), "first_epoch=-1"),
        (lambda samples: samples.batches(2, first_epoch=2**63), "`first_epoch` must be below"),
        (lambda samples: samples.batches(2, seed=2**64), "`seed` must be below"),
        (lambda samples: samples.batches(2, augment=True, padding=-1), "padding=-1"),
        (lambda samples: samples.batches(2, augment=True, padding=4), "below 4, .* padding=4"),
        (lambda samples: make([2], shape=(5,)).batches(2, augment=True), r"\(2, 5\)"),
    ],
)
def test_wrong_use(use, message):
    with pytest.raises(ValueError, match=message):
        use(make([4, 2]))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda samples: samples.subset(2.5), "size=2.5"),
        (lambda samples: samples.batches(2, seed=0.5), "seed=0.5"),
        (lambda samples: samples.steps(True), "batch_size=True of type bool"),
    ],
)
def test_integers(use, message):
    with pytest.raises(TypeError, match=message):
        use(make([4, 2]))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda samples: samples.split("a"), "`fraction` must be a number above 0.*fraction='a'"),
        (lambda samples: samples.split(None), "fraction=None of type NoneType"),
        (lambda samples: samples.split(True), "fraction=True of type bool"),
        (lambda samples: samples.steps(2, None), "`drop_remainder` must be True or False"),
    ],
)
def test_numbers_and_switches_of_another_type(use, message):
    with pytest.raises(TypeError, match=message):
        use(make([4, 2]))


@pytest.mark.parametrize("switch", ["shuffle", "augment", "with_ids", "drop_remainder"])
@pytest.mark.parametrize("value", [None, "a", 1.0, -1, []])
def test_a_switch_is_true_or_false(switch, value):
    with pytest.raises(TypeError, match=f"`{switch}` must be True or False. Received: {switch}="):
        make([4, 2]).batches(2, **{switch: value})


@pytest.mark.parametrize("value", [1, np.True_])
def test_a_switch_may_be_numpys_or_a_number(value):
    dataset = make([4, 2]).batches(4, drop_remainder=value, with_ids=value)
    assert len(dataset.element_spec) == 3
    assert len(list(dataset)) == 1


def test_a_batch_larger_than_all_is_all():
    ((_, labels),) = make([4, 2]).batches(2**70).as_numpy_iterator()
    assert len(labels) == 6


def test_steps():
    samples = make([6, 4])
    assert [samples.steps(4), samples.steps(5), samples.steps(4, drop_remainder=True)] == [3, 2, 2]


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("tensorflow", lambda: make([2]).batches(1)),
        ("tensorflow_datasets", lambda: data.load("cifar10", ".")),
    ],
)
def test_a_missing_package_names_the_extra(package, use, monkeypatch):
    # What Python itself puts there to forbid an import.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'keras-ats\[datasets\]'"):
        use()
