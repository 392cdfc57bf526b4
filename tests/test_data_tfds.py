"""Data sets of TensorFlow Datasets: tiny copies, written and read through the real builders."""

import os
import shutil
from pathlib import Path

import data_files
import numpy as np
import pytest
import tensorflow_datasets as tfds
from backends import on_one_backend

from keras_ats import data
from keras_ats.data import spectrograms
from keras_ats.data.statistics import chosen_statistics

pytestmark = on_one_backend("files are read by tf.data")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "tfds"
CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "caltech_birds2011": 200,
    "stanford_dogs": 120,
    "speech_commands": 12,
}
SHAPES = {
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "caltech_birds2011": (64, 64, 3),
    "stanford_dogs": (64, 64, 3),
    "speech_commands": (32, 32, 1),
}


def load(name, data_dir, **options):
    return data.load(name, data_dir, verbose=False, **options)


def labels_of(name, splits=("train", "test"), per_class=2):
    """Labels that no split has in order."""
    labels = np.tile(np.arange(CLASSES[name]), per_class)
    return {split: np.roll(labels[::-1], place) for place, split in enumerate(splits)}


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """A folder with a CIFAR-10 of 30 and 20 images, and the examples written."""
    data_dir = tmp_path_factory.mktemp("tfds")
    labels = {"train": np.tile(np.arange(10), 3)[::-1], "test": np.tile(np.arange(10), 2)}
    # Four shards: their order is part of the published order.
    return data_dir, data_files.write_tfds("cifar10", data_dir, labels, shard_size=8)


@pytest.fixture
def copy(cifar10, tmp_path):
    """A copy of the folder, to be broken, and its version folder."""
    shutil.copytree(cifar10[0], tmp_path / "tfds")
    return tmp_path / "tfds", next((tmp_path / "tfds" / "cifar10").iterdir())


@pytest.mark.parametrize("name", CLASSES)
def test_every_set_is_read_through_its_builder(name, tmp_path):
    splits = ("train", "validation", "test") if name == "speech_commands" else ("train", "test")
    labels = labels_of(name, splits)
    data_files.write_tfds(name, tmp_path, labels)
    train, validation, test = load(name, tmp_path)
    for samples, split in ((train, "train"), (test, "test")):
        assert samples.features.shape == (len(labels[split]), *SHAPES[name])
        np.testing.assert_array_equal(samples.labels, labels[split])
        np.testing.assert_array_equal(samples.ids, np.arange(len(labels[split])))
        assert samples.name == f"{name}/{split}"
        assert len(samples.class_names) == CLASSES[name]
    assert (train.mean, train.std) == (test.mean, test.std)
    if name == "speech_commands":
        assert train.class_names[-1] == "_unknown_"
        np.testing.assert_array_equal(validation.labels, labels["validation"])
    else:
        assert validation is None


def test_cifar_keeps_every_pixel_and_the_order_of_the_shards(cifar10):
    data_dir, examples = cifar10
    train, _, test = load("cifar10", data_dir)
    for samples, split in ((train, "train"), (test, "test")):
        written = np.stack([example["image"] for example in examples[split]])
        np.testing.assert_array_equal(samples.features, written)
    rows = train.features.reshape(-1, 3) / 255
    np.testing.assert_allclose(train.mean, rows.mean(axis=0))
    np.testing.assert_allclose(train.std, rows.std(axis=0))


def test_subset_then_validation_and_statistics_of_what_is_left(cifar10):
    data_dir, examples = cifar10
    train, validation, test = load("cifar10", data_dir, size=20, validation_fraction=0.5, seed=3)
    assert (len(train), len(validation), len(test)) == (10, 10, 20)
    assert not set(train.ids) & set(validation.ids)
    for samples in (train, validation):
        assert sorted(samples.labels) == list(range(10))
        for sample, place in enumerate(samples.ids):
            np.testing.assert_array_equal(
                samples.features[sample], examples["train"][place]["image"]
            )
    rows = train.features.reshape(-1, 3) / 255
    for samples in (train, validation, test):
        np.testing.assert_allclose(samples.mean, rows.mean(axis=0))
    again = load("cifar10", data_dir, size=20, validation_fraction=0.5, seed=3)
    np.testing.assert_array_equal(again.train.ids, train.ids)
    other = load("cifar10", data_dir, size=20, validation_fraction=0.5, seed=4)
    assert set(other.train.ids) != set(train.ids)
    assert test.ids.tolist() == other.test.ids.tolist() == list(range(20))


def test_known_statistics(cifar10):
    data_dir, _ = cifar10
    assert load("cifar10", data_dir, statistics="published").test.mean[0] == 0.4914
    assert load("cifar10", data_dir, statistics="imagenet").train.std[2] == 0.225
    given = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert load("cifar10", data_dir, statistics=given).train.mean == given[0]


def test_images_are_the_largest_centred_square(tmp_path):
    labels = labels_of("caltech_birds2011", per_class=1)
    examples = data_files.write_tfds("caltech_birds2011", tmp_path, labels)
    train = load("caltech_birds2011", tmp_path, image_size=12).train
    # Written at 12 x 16: at 12 nothing is scaled, and two columns are cut on either side.
    np.testing.assert_array_equal(train.features[5], examples["train"][5]["image"][:, 2:14])


def test_spectrograms_of_a_tone_and_of_silence(tmp_path):
    def example(_, label, rng):
        time = np.arange(12_000) / 16_000
        tone = 0.5 * np.sin(2 * np.pi * 1000 * time) if label else np.zeros(16_500)
        return {"audio": (tone * 32_767).astype(np.int16), "label": label}

    labels = dict.fromkeys(("train", "validation", "test"), range(12))
    data_files.write_tfds("speech_commands", tmp_path, labels, example=example)
    train = load("speech_commands", tmp_path).train
    np.testing.assert_allclose(train.features[0], spectrograms.LOG_FLOOR, rtol=1e-6)
    np.testing.assert_allclose(train.features[1], by_numpy(example(0, 1, 0)["audio"]), atol=0.01)
    # The recording ends after three quarters of the second: silence follows.
    np.testing.assert_allclose(train.features[1, 26:], spectrograms.LOG_FLOOR, atol=1e-3)
    assert load("speech_commands", tmp_path, image_size=40).train.features.shape[1:] == (40, 40, 1)
    with pytest.raises(ValueError, match="64 mel bins"):
        load("speech_commands", tmp_path, image_size=65)


def by_numpy(audio):
    """The log-mel spectrogram, written down once more."""
    wave = np.zeros(16_000)
    wave[: len(audio)] = audio / 32_768
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([wave[483 * n : 483 * n + 1024] * window for n in range(32)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.linspace(*(1127 * np.log1p(np.array([60.0, 7600.0]) / 700)), 34)
    bins = 1127 * np.log1p(np.arange(513) * 16_000 / 1024 / 700)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    mel = np.maximum(0, np.minimum(rising, falling))
    return np.log(power @ mel + 1e-6)[..., None]


def test_a_missing_set_names_the_command_that_gets_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no prepared cifar100") as caught:
        load("cifar100", tmp_path)
    assert f"tfds.load('cifar100', data_dir='{tmp_path}')" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_named(copy):
    data_dir, folder = copy
    shard = sorted(folder.glob("*train*"))[1]
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(ValueError, match="train split of cifar10 cannot be read") as caught:
        load("cifar10", data_dir)
    assert "Expected: 30 samples" in str(caught.value)
    assert f"Delete {folder}" in str(caught.value)


def test_a_file_without_its_last_samples_is_an_error(copy):
    data_dir, folder = copy
    shards = sorted(folder.glob("*train*"))
    # The last shard has 6 of the 8 samples that the description promises for the first.
    shutil.copy(shards[-1], shards[0])
    with pytest.raises(ValueError, match="Expected: 30 samples"):
        load("cifar10", data_dir)


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        (tfds.features.Text(), b"\x89PNG\r\n\x1a\n and no more", "after about 0 samples"),
        (
            tfds.features.Image(shape=(28, 28, 3)),
            np.zeros((28, 28, 3), np.uint8),
            r"samples: Incompatible .* expected \[\?,32,32,3\] but got \[10,28,28,3\]\. Exp",
        ),
    ],
)
def test_what_is_no_image_of_the_set_is_an_error(feature, value, message, tmp_path):
    columns = {
        "id": tfds.features.Text(),
        "image": feature,
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    labels = {"train": range(10), "test": range(10)}
    data_files.write_odd_cifar10(
        tmp_path, columns, labels, lambda _, label, rng: {"id": "", "image": value, "label": label}
    )
    with pytest.raises(ValueError, match=message):
        load("cifar10", tmp_path)


def test_labels_beyond_the_classes_are_an_error(tmp_path):
    columns = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(num_classes=12),
    }
    labels = {"train": range(12), "test": range(10)}
    data_files.write_odd_cifar10(
        tmp_path,
        columns,
        labels,
        lambda _, label, rng: {"id": "", "image": data_files.image(rng), "label": label},
    )
    with pytest.raises(ValueError, match=r"labels that are no class: \[10, 11\]"):
        load("cifar10", tmp_path)


def test_an_empty_class_is_an_error(tmp_path):
    labels = {"train": [0, 1, 2, 3, 5, 6, 7, 8, 9], "test": range(10)}
    data_files.write_tfds("cifar10", tmp_path, labels)
    with pytest.raises(ValueError, match=r"train split of cifar10 .* no sample of \['4'\]"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("label.labels.txt", "one\ntwo\n", "has 10 classes. Received: 2 names"),
        ("dataset_info.json", '{"name": "cif', "description of cifar10"),
    ],
)
def test_a_broken_description_is_an_error(file, text, message, copy):
    data_dir, folder = copy
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        load("cifar10", data_dir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cifar11"}, "'cifar11'"),
        ({"name": ["cifar10"]}, r"`name` must be one of .* name=\['cifar10'\]"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"validation_fraction": float("nan")}, "validation_fraction=nan"),
        ({"validation_fraction": 0.9}, "all samples of class"),
        ({"size": 40}, "size=30"),
        ({"size": 0}, "size=0"),
        ({"image_size": 0}, "image_size=0"),
        ({"statistics": "theirs", "data_dir": "nowhere"}, "'theirs'"),
        ({"seed": -1, "data_dir": "nowhere"}, "seed=-1"),
        ({"statistics": ((0.5,), (0.5,))}, "3 number"),
        (
            {"statistics": ((0.5,) * 3, (float("nan"),) * 3), "data_dir": "nowhere"},
            "3 number",
        ),
    ],
)
def test_wrong_arguments(options, message, cifar10):
    options = {"name": "cifar10", "data_dir": cifar10[0]} | options
    with pytest.raises(ValueError, match=message):
        load(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_fraction": "a"}, "`validation_fraction` must be a number.*='a' of type str"),
        ({"validation_fraction": None}, "validation_fraction=None of type NoneType"),
        ({"data_dir": 5}, "`data_dir` must be a folder.* data_dir=5 of type int.* Leave it out"),
        ({"data_dir": ["data"]}, r"data_dir=\['data'\] of type list"),
        ({"verbose": "no"}, "`verbose` must be True or False. Received: verbose='no'"),
        ({"verbose": 2}, "verbose=2"),
        ({"size": "10"}, "size='10'"),
        ({"image_size": (32, 32)}, r"image_size=\(32, 32\)"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_arguments_of_a_wrong_type(options, message):
    with pytest.raises(TypeError, match=message):
        data.load(**{"name": "cifar10", "data_dir": "nowhere", "verbose": False} | options)


def test_an_interrupt_leaves_nothing_behind(cifar10, monkeypatch):
    def interrupt(self, done):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("keras.utils.Progbar.update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load("cifar10", cifar10[0])
    assert len(load("cifar10", cifar10[0]).train) == 30


@pytest.mark.skipif(not SHARED.is_dir(), reason="no prepared CIFAR-10 beside the project")
def test_the_real_cifar10():
    train, validation, test = load("cifar10", SHARED, size=10_000, validation_fraction=0.1)
    assert (len(train), len(validation), len(test)) == (9000, 1000, 10_000)
    assert train.class_names[:2] == ("airplane", "automobile")
    assert np.bincount(train.labels).tolist() == [900] * 10
    # The copy was compressed anew as JPEG, which moves the colours a little.
    published, _ = chosen_statistics("published", train.features, "cifar10")
    np.testing.assert_allclose(train.mean, published, atol=0.01)
