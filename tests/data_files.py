"""Tiny data sets in their published forms, written to disk as the real ones are."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_ats


def image(rng, height=32, width=None, channels=3):
    return rng.integers(0, 256, (height, width or height, channels), np.uint8)


def tfds_example(name, label, rng):
    """One example with all the features of the real data set."""
    if name == "cifar10":
        return {"id": f"train_{label}", "image": image(rng), "label": label}
    if name == "cifar100":
        return {"id": "x", "image": image(rng), "label": label, "coarse_label": label % 20}
    box = tfds.features.BBox(ymin=0.1, xmin=0.1, ymax=0.9, xmax=0.9)
    if name == "caltech_birds2011":
        return {
            "image": image(rng, 12, 16),
            "image/filename": "bird.jpg",
            "label": label,
            "label_name": "bird",
            "bbox": box,
            "segmentation_mask": image(rng, 12, 16, 1),
        }
    if name == "stanford_dogs":
        return {
            "image": image(rng, 14, 10),
            "image/filename": "dog.jpg",
            "label": label,
            "objects": [{"bbox": box}],
        }
    return {"audio": rng.integers(-9999, 9999, 15_000 + label, np.int16), "label": label}


def write_tfds(name, data_dir, splits, shard_size=1000, example=tfds_example):
    """Writes `{split: labels}` as the real builder describes it; returns the examples."""
    info = tfds.builder(name, data_dir=str(data_dir)).info
    return write_splits(info, name, splits, shard_size, example)


def write_odd_cifar10(data_dir, features, splits, example):
    """Writes a CIFAR-10 whose records hold something else than the real ones."""

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.builder("cifar10").version

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            raise NotImplementedError

        def _generate_examples(self):
            raise NotImplementedError

    return write_splits(Cifar10(data_dir=str(data_dir)).info, "", splits, 1000, example)


def write_splits(info, name, splits, shard_size, example):
    rng = np.random.default_rng(0)
    examples = {split: [example(name, y, rng) for y in labels] for split, labels in splits.items()}
    Path(info.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(info, shard_size)
    writer.initialize_splits(list(splits))
    writer.add_examples(examples)
    writer.close_all()
    return examples


def write_image(path, pixels):
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels).numpy())


def write_cinic10(root, per_class=2):
    """PNG files by folder; returns the images of train by class and file name."""
    rng = np.random.default_rng(0)
    images = []
    for split in ("train", "valid", "test"):
        for name in keras_ats.data.readers.cinic10.CLASS_NAMES:
            for number in range(per_class):
                pixels = image(rng)
                write_image(root / split / name / f"{number}-{split}.png", pixels)
                images += [pixels] if split == "train" else []
    return np.stack(images)


def write_tiny_imagenet(root, per_class=1):
    """JPEG files and lists; returns the WordNet ids, in the order of wnids.txt."""
    rng = np.random.default_rng(0)
    wnids = [f"n{number:08d}" for number in rng.permutation(200)]
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")
    rows = []
    for place, wnid in enumerate(wnids):
        for number in range(per_class):
            # A few of the published images are grey.
            pixels = image(rng, 64, channels=1 if place == 3 else 3)
            write_image(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", pixels)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        write_image(root / "val" / "images" / f"val_{place}.JPEG", image(rng, 64))
        rows.append(f"val_{place}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    return wnids
