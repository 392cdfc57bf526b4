"""CINIC-10 and Tiny-ImageNet: tiny copies in their published folders, whole and broken."""

import os
import shutil

import data_files
import numpy as np
import pytest
from backends import on_one_backend

from keras_ats import data

pytestmark = on_one_backend("files are read by tf.data")


def load(name, data_dir, **options):
    return data.load(name, data_dir, verbose=False, **options)


@pytest.fixture(scope="module")
def cinic10(tmp_path_factory):
    """The folder that CINIC-10 was unpacked to, and the images of train."""
    root = tmp_path_factory.mktemp("cinic10")
    return root, data_files.write_cinic10(root)


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory):
    """The folder above that of Tiny-ImageNet, and the class ids in the order of wnids.txt."""
    root = tmp_path_factory.mktemp("data")
    return root, data_files.write_tiny_imagenet(root / "tiny-imagenet-200")


@pytest.fixture
def broken_cinic10(cinic10, tmp_path):
    shutil.copytree(cinic10[0], tmp_path / "CINIC-10")
    return tmp_path / "CINIC-10"


@pytest.fixture
def broken_tiny_imagenet(tiny_imagenet, tmp_path):
    shutil.copytree(tiny_imagenet[0], tmp_path / "tiny")
    return tmp_path / "tiny" / "tiny-imagenet-200"


def test_cinic10_is_read_by_class_and_file_name(cinic10):
    root, images = cinic10
    train, validation, test = load("cinic10", root)
    np.testing.assert_array_equal(train.features, images)
    for samples in (train, validation, test):
        np.testing.assert_array_equal(samples.labels, np.repeat(np.arange(10), 2))
    assert train.class_names == data.readers.cinic10.CLASS_NAMES
    # Without a fraction the published validation images are those.
    assert [samples.name for samples in (train, validation, test)] == [
        "cinic10/train",
        "cinic10/validation",
        "cinic10/test",
    ]
    np.testing.assert_allclose(train.std, images.reshape(-1, 3).std(axis=0) / 255)


def test_cinic10_validation_is_carved_from_train_on_request(cinic10):
    train, validation, test = load("cinic10", cinic10[0], validation_fraction=0.5)
    assert (len(train), len(validation), len(test)) == (10, 10, 20)
    assert validation.name == "cinic10/train"
    assert sorted([*train.ids, *validation.ids]) == list(range(20))


def test_the_folder_above_will_do(cinic10, tmp_path):
    (tmp_path / "CINIC-10").symlink_to(cinic10[0])
    assert len(load("cinic10", tmp_path, image_size=16).test) == 20


def test_tiny_imagenet_takes_val_for_test(tiny_imagenet):
    root, wnids = tiny_imagenet
    train, validation, test = load("tiny_imagenet", root)
    assert validation is None
    assert train.class_names == tuple(sorted(wnids))
    assert train.features.shape == test.features.shape == (200, 64, 64, 3)
    assert train.features.dtype == np.uint8
    np.testing.assert_array_equal(train.labels, np.arange(200))
    # Images of val stand in alphabetical order: val_0, val_1, val_10, val_100 and so on.
    order = sorted(range(200), key=lambda place: f"val_{place}.JPEG")
    assert [test.class_names[label] for label in test.labels] == [wnids[place] for place in order]
    # A grey image has three equal channels.
    grey = train.features[train.class_names.index(wnids[3])]
    assert np.ptp(grey.astype(int), axis=-1).max() == 0


def test_images_are_scaled(tiny_imagenet):
    root, _ = tiny_imagenet
    full, half = load("tiny_imagenet", root).test, load("tiny_imagenet", root, image_size=32).test
    assert half.features.shape[1:] == (32, 32, 3)
    # Smoothed while it shrinks, so that the mean of an image stays.
    means = [samples.features.mean(axis=(1, 2, 3)) for samples in (full, half)]
    np.testing.assert_allclose(*means, atol=3)


@pytest.mark.parametrize("name", ["cinic10", "tiny_imagenet"])
@pytest.mark.parametrize("given", [True, False])
def test_a_missing_set_says_what_is_expected(name, given, tmp_path):
    with pytest.raises(FileNotFoundError, match="unpack it") as caught:
        load(name, tmp_path if given else None)
    title = {"cinic10": "CINIC-10", "tiny_imagenet": "Tiny-ImageNet"}[name]
    for part in (title, "train/<", f"data_dir='{tmp_path}'" if given else "data_dir='None'"):
        assert part in str(caught.value)


def test_a_truncated_image_is_named(broken_cinic10):
    file = broken_cinic10 / "train" / "frog" / "1-train.png"
    os.truncate(file, 100)
    with pytest.raises(ValueError, match=r"frog/1-train\.png"):
        load("cinic10", broken_cinic10)


def test_a_truncated_jpeg_is_named(broken_tiny_imagenet):
    file = broken_tiny_imagenet / "val" / "images" / "val_7.JPEG"
    os.truncate(file, 0)
    with pytest.raises(ValueError, match=r"val_7\.JPEG"):
        load("tiny_imagenet", broken_tiny_imagenet)


def test_a_missing_class_is_named(broken_cinic10):
    shutil.move(broken_cinic10 / "test" / "horse", broken_cinic10 / "test" / "pony")
    with pytest.raises(ValueError, match=r"missing: \['horse'\]; unknown: \['pony'\]"):
        load("cinic10", broken_cinic10)


def test_an_empty_class_is_named(broken_cinic10):
    for file in (broken_cinic10 / "valid" / "ship").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"validation split .* no sample of \['ship'\]"):
        load("cinic10", broken_cinic10)
    assert load("cinic10", broken_cinic10, validation_fraction=0.5).validation


def test_a_missing_split_is_named(broken_cinic10):
    shutil.rmtree(broken_cinic10 / "valid")
    with pytest.raises(FileNotFoundError, match="CINIC-10/valid"):
        load("cinic10", broken_cinic10)


def test_a_missing_annotation_is_named(broken_tiny_imagenet):
    table = broken_tiny_imagenet / "val" / "val_annotations.txt"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"none for \['val_199\.JPEG'\]"):
        load("tiny_imagenet", broken_tiny_imagenet)


@pytest.mark.parametrize("missing", ["wnids.txt", "val/val_annotations.txt", "val/images"])
def test_a_missing_part_is_named(missing, broken_tiny_imagenet):
    path = broken_tiny_imagenet / missing
    shutil.move(path, broken_tiny_imagenet / "elsewhere")
    with pytest.raises(FileNotFoundError, match=missing):
        load("tiny_imagenet", broken_tiny_imagenet)


def test_a_wrong_number_of_classes_is_an_error(broken_tiny_imagenet):
    wnids = broken_tiny_imagenet / "wnids.txt"
    wnids.write_text("\n".join(wnids.read_text().split()[:150]))
    with pytest.raises(ValueError, match=r"has 200 classes\. Received: 150"):
        load("tiny_imagenet", broken_tiny_imagenet)
