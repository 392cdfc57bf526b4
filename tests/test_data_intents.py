"""CLINC150 and Banking77: files of the published form, whole and broken, and the real ones."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from backends import on_one_backend

from keras_ats import data
from keras_ats.data.readers import intents

pytestmark = on_one_backend("texts are read without a backend")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "intents"
NAMES = ("clinc150", "banking77")


def load(name, data_dir, **options):
    return data.load(name, data_dir, verbose=False, **options)


def write_clinc150(folder):
    """A file of the published form and size, its classes in no order."""
    content = {}
    for key, count in intents.CLINC150_COUNTS.items():
        name = "oos" if key.startswith("oos") else None
        content[key] = [[f"{key} {i}", name or f"intent {149 - i % 150:03}"] for i in range(count)]
    (folder / "clinc150.json").write_text(json.dumps(content))
    return content


def write_banking77(folder, text=lambda split, i: f"{split} {i},\nhello"):
    for split, count in intents.BANKING77_COUNTS.items():
        with (folder / f"banking77_{split}.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["text", "category"])
            # A capital letter among small ones, as published; commas and line breaks within texts.
            names = [f"intent_{i:02}" for i in range(76)] + ["Intent_30b"]
            rows.writerows([text(split, i), names[i % 77]] for i in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intents")
    write_clinc150(folder)
    write_banking77(folder)
    return folder


def test_clinc150_has_its_published_splits(folder):
    splits = load("clinc150", folder)
    assert [len(split) for split in splits] == [15_000, 3_000, 4_500]
    for split in splits:
        assert np.all(np.bincount(split.labels) == len(split) // 150)
        assert split.class_names == tuple(f"intent {i:03}" for i in range(150))
    train = splits.train
    assert (train.sentences[1], train.labels[1], train.ids[1]) == ("train 1", 148, 1)
    assert repr(splits.validation) == "Texts('clinc150/validation': 3000 sentences, 150 classes)"


def test_out_of_scope_sentences_are_left_out_or_a_class(folder):
    inside, outside = (load("clinc150", folder, out_of_scope=choice) for choice in (False, True))
    assert [len(b) - len(a) for a, b in zip(inside, outside, strict=True)] == [100, 100, 1_000]
    for split in outside:
        assert split.class_names[150] == "oos"
        assert all(text.startswith("oos") for text in split.sentences[split.labels == 150])
    with pytest.raises(ValueError, match=r"`out_of_scope` must be False for banking77"):
        load("banking77", folder, out_of_scope=True)
    with pytest.raises(ValueError, match="`out_of_scope` is for clinc150"):
        load("cifar10", folder, out_of_scope=True)


def test_banking77_has_no_validation_split_until_one_is_carved(folder):
    train, validation, test = load("banking77", folder)
    assert (len(train), validation, len(test)) == (10_003, None, 3_080)
    assert train.sentences[0] == "train 0,\nhello"
    # Alphabetical whatever the case of the letters.
    assert train.class_names[30:32] == ("intent_30", "Intent_30b")

    rest, carved, _ = load("banking77", folder, validation_fraction=0.1, seed=1)
    assert sorted([*rest.ids, *carved.ids]) == list(range(10_003))
    share = np.bincount(carved.labels) / np.bincount(train.labels)
    np.testing.assert_allclose(share, 0.1, atol=0.01)
    again, other = (load("banking77", folder, validation_fraction=0.1, seed=s)[1] for s in (1, 2))
    np.testing.assert_array_equal(carved.ids, again.ids)
    assert not np.array_equal(carved.ids, other.ids)


@pytest.mark.parametrize("name", NAMES)
def test_subsets_are_balanced_and_lie_within_each_other(folder, name):
    classes = len(load(name, folder).train.class_names)
    small, large = (load(name, folder, size=count * classes, seed=3).train for count in (2, 5))
    assert set(small.ids) < set(large.ids)
    assert np.all(np.bincount(large.labels) == 5)
    with pytest.raises(ValueError, match="class-balanced subset"):
        large.subset(6 * classes)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_set_says_what_is_expected(name, tmp_path):
    for given in (tmp_path, None):
        with pytest.raises(FileNotFoundError, match=rf"no {name} here.*{name}.*nothing is down"):
            load(name, given)


def test_published_names_of_files_will_do(folder, tmp_path):
    for old, new in (
        ("clinc150.json", "data_full.json"),
        ("banking77_train.csv", "train.csv"),
        ("banking77_test.csv", "test.csv"),
    ):
        (tmp_path / new).symlink_to(folder / old)
    assert len(load("clinc150", tmp_path).test) == 4_500
    assert len(load("banking77", tmp_path).test) == 3_080


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda text: text[: len(text) // 2], "no JSON"),
        (lambda text: "[]", "a list"),
        (lambda text: text.replace('"oos_test"', '"other"'), "'oos_test' with NoneType"),
        (lambda text: text.replace('["val 7", "intent 142"], ', ""), "'val' with 2999 rows"),
        (lambda text: text.replace('["val 7", "intent 142"]', "[7, 8]"), r"\[7, 8\] in row 7"),
        (lambda text: text.replace('intent 142"', 'intent 141"'), "149 classes, for 150"),
        (lambda text: text.replace('"val 7", "intent 142"', '"val 7", "x"'), r"unknown \['x'\]"),
    ],
)
def test_a_broken_clinc150_is_refused(folder, tmp_path, change, received):
    file = tmp_path / "clinc150.json"
    file.write_text(change((folder / file.name).read_text()))
    with pytest.raises(ValueError, match=rf"(?s){re.escape(str(file))}.*{received}.*Get it again"):
        load("clinc150", tmp_path)


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda text: text[: len(text) // 2], r"the table with \d+ rows|no CSV"),
        (lambda text: text.replace("text,category", "a,b"), r"the columns \['a', 'b'\]"),
        (lambda text: text.replace('hello",intent_05', 'hello",', 1), "in row 5 of the table"),
        (lambda text: text.replace("intent_05", "intent_06"), "76 classes, for 77"),
        (lambda text: text + '"open', "no CSV"),
    ],
)
def test_a_broken_banking77_is_refused(folder, tmp_path, change, received):
    file, other = tmp_path / "banking77_train.csv", "banking77_test.csv"
    (tmp_path / other).symlink_to(folder / other)
    file.write_text(change((folder / file.name).read_text()))
    with pytest.raises(ValueError, match=rf"(?s){received}.*Get it again"):
        load("banking77", tmp_path)


@pytest.mark.parametrize("option", [{"image_size": 32}, {"statistics": "imagenet"}])
def test_what_is_for_images_is_refused(folder, option):
    with pytest.raises(ValueError, match=r"for images.*Leave"):
        load("clinc150", folder, **option)


@pytest.mark.parametrize(
    ("sentences", "error"), [("a text", ValueError), ([], ValueError), ([b"a"], TypeError)]
)
def test_sentences_that_are_none(sentences, error):
    with pytest.raises(error, match="`sentences` must be"):
        data.Texts(sentences, [0])


def test_your_own_sentences():
    texts = data.Texts(["a", "b", "c", "d"], [0, 1, 0, 1])
    train, validation = texts.split(0.5)
    assert sorted([*train.ids, *validation.ids]) == [0, 1, 2, 3]
    assert train.class_names == ("0", "1")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} with the published files is not there")
def test_the_published_files():
    train, validation, test = load("clinc150", SHARED)
    assert (train.class_names[0], train.class_names[-1]) == ("accept_reservations", "yes")
    assert (
        train.sentences[0] == "what expression would i use to say i love you if i were an italian"
    )
    assert train.class_names[train.labels[0]] == "translate"
    for split, count in ((train, 100), (validation, 20), (test, 30)):
        assert np.all(np.bincount(split.labels) == count)
    train, _, test = load("banking77", SHARED)
    assert train.class_names[train.labels[0]] == "card_arrival"
    assert np.all(np.bincount(test.labels) == 40)
