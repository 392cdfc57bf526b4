"""The published data sets by name: who reads each, and what it is."""

from collections.abc import Callable
from typing import NamedTuple

from keras_ats.data.readers import cinic10, intents, tfds_sets, tiny_imagenet
from keras_ats.data.readers.published import Published, Request


class DataSet(NamedTuple):
    """A data set that can be read.

    Attributes:
        read: Its reader.
        num_classes: As published.
        size: Height and width to come to by default, or frames and bins.
        kind: "images" or "spectrograms".
    """

    read: Callable[[Request], Published]
    num_classes: int
    size: int
    kind: str = "images"


DATA_SETS: dict[str, DataSet] = {
    "cifar10": DataSet(tfds_sets.read_images, 10, 32),
    "cifar100": DataSet(tfds_sets.read_images, 100, 32),
    "caltech_birds2011": DataSet(tfds_sets.read_images, 200, 64),
    "stanford_dogs": DataSet(tfds_sets.read_images, 120, 64),
    "speech_commands": DataSet(tfds_sets.read_speech, 12, 32, "spectrograms"),
    "cinic10": DataSet(cinic10.read, 10, cinic10.SIZE),
    "tiny_imagenet": DataSet(tiny_imagenet.read, 200, tiny_imagenet.SIZE),
}


class TextSet(NamedTuple):
    """A data set of sentences that can be read.

    Attributes:
        read: Its reader; takes also whether out-of-scope sentences are wanted.
        num_classes: As published, without those.
    """

    read: Callable[[Request, bool], intents.Sentences]
    num_classes: int


TEXT_SETS: dict[str, TextSet] = {
    "clinc150": TextSet(intents.read_clinc150, 150),
    "banking77": TextSet(intents.read_banking77, 77),
}
