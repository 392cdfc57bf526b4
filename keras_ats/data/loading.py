"""Published data sets by name."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

import numpy as np

from keras_ats.checks import as_boolean, as_integer, as_number
from keras_ats.data.readers.published import Published, Request, check_classes
from keras_ats.data.readers.registry import DATA_SETS, TEXT_SETS, DataSet
from keras_ats.data.samples import Samples
from keras_ats.data.statistics import Statistics, chosen_statistics
from keras_ats.data.texts import Texts

Kind = TypeVar("Kind", Samples, Texts)


class Splits(NamedTuple, Generic[Kind]):
    """What `load` returns: `train`, `validation` (may be None) and `test`, `Samples` or `Texts`."""

    train: Kind
    validation: Kind | None
    test: Kind


@overload
def load(  # type: ignore[overload-overlap]
    name: Literal["clinc150", "banking77"],
    data_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    validation_fraction: float = 0.0,
    size: int | None = None,
    statistics: Statistics = "computed",
    out_of_scope: bool = False,
    seed: int = 0,
    verbose: bool = True,
) -> Splits[Texts]: ...


@overload
def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    validation_fraction: float = 0.0,
    size: int | None = None,
    statistics: Statistics = "computed",
    out_of_scope: bool = False,
    seed: int = 0,
    verbose: bool = True,
) -> Splits[Samples]: ...


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    validation_fraction: float = 0.0,
    size: int | None = None,
    statistics: Statistics = "computed",
    out_of_scope: bool = False,
    seed: int = 0,
    verbose: bool = True,
) -> Any:
    """Loads a published data set from disk into memory.

    The test split is the published one, whole. A validation split is carved from train, class by
    class, so that choices such as a temperature need not be made on test images. Nothing is
    downloaded; where a data set is missing, the error says how to get it.

    Args:
        name: "cifar10", "cifar100", "caltech_birds2011", "stanford_dogs" or "speech_commands", as
            prepared by TensorFlow Datasets; "cinic10" or "tiny_imagenet", unpacked; "clinc150" or
            "banking77", sentences with 150 and 77 intents.
        data_dir: Folder of TFDS's data sets, by default TFDS's own; the folder that the archive
            was unpacked in; or the one that the files with sentences are in.
        image_size: Height and width to come to, the largest centred square being scaled. Defaults
            to 32, and 64 for Tiny-ImageNet, birds and dogs. Of spectrograms: frames and mel bins,
            from 8 to 64.
        validation_fraction: Of train, from 0 to below 1. At 0, the default, `validation` is the
            published one of CINIC-10, Speech Commands and CLINC150, and None for the others. Above
            0 it is carved from train, and a published one is left aside.
        size: Class-balanced subset of train, taken before validation is carved from it. Defaults
            to all.
        statistics: What features are normalised with. "computed" (default): mean and deviation of
            each channel over the samples in `train`, without those of validation and test;
            "published": the numbers in use for CIFAR, CINIC-10 and Tiny-ImageNet; "imagenet": as
            in the ATS paper's code; or a tuple `(mean, std)` for features from 0 to 1.
        out_of_scope: Of CLINC150: whether the sentences that have none of its intents are there, as
            class "oos", the last. Defaults to False.
        seed: Of subset and validation split.
        verbose: Whether to show progress.

    Returns:
        `(train, validation, test)`: `Samples`, or `Texts` of a data set of sentences.

    Raises:
        ImportError: If TensorFlow or TensorFlow Datasets is missing.
        FileNotFoundError: If the data set is not there.
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is wrong, or the data set is broken.

    Example:

    <!-- no-run: needs the data set on disk -->
    ```python
    train, validation, test = keras_ats.data.load("cifar10", validation_fraction=0.1)
    ```
    """
    names = sorted({**DATA_SETS, **TEXT_SETS})
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"`name` must be one of {names}. Received: name={name!r}.")
    _check_numbers(validation_fraction, size, seed)
    out_of_scope = as_boolean(out_of_scope, "out_of_scope")
    request = Request(
        name=name,
        data_dir=_checked_folder(data_dir),
        size=0,
        num_classes=(TEXT_SETS if name in TEXT_SETS else DATA_SETS)[name].num_classes,
        with_validation=not validation_fraction,
        verbose=as_boolean(verbose, "verbose"),
    )
    if name in TEXT_SETS:
        _check_no_images(name, image_size, statistics)
        return _texts(request, out_of_scope, size, validation_fraction, seed)
    if out_of_scope:
        raise ValueError(
            f"`out_of_scope` is for clinc150. Received: out_of_scope=True for name={name!r}."
        )
    chosen = DATA_SETS[name]
    _check_statistics(chosen, name, statistics)
    request = replace(request, size=_checked_size(image_size, chosen))
    published = chosen.read(request)
    check_classes(published, request)
    splits = {split: _samples(published, split, name, chosen.kind) for split in published.splits}
    train, validation, test = splits["train"], splits.get("validation"), splits["test"]
    if size is not None:
        train = train.subset(size, seed)
    if validation_fraction:
        train, validation = train.split(validation_fraction, seed)
    mean, std = chosen_statistics(statistics, train.features, name)
    return Splits(
        replace(train, mean=mean, std=std),
        None if validation is None else replace(validation, mean=mean, std=std),
        replace(test, mean=mean, std=std),
    )


def _texts(
    request: Request, out_of_scope: bool, size: int | None, validation_fraction: float, seed: int
) -> Splits[Texts]:
    """Sentences, split as images are."""
    found = TEXT_SETS[request.name].read(request, out_of_scope)
    numbers = {name: label for label, name in enumerate(found.class_names)}
    splits = {
        split: Texts(
            np.array([sentence for sentence, _ in pairs], dtype=object),
            np.array([numbers[name] for _, name in pairs]),
            class_names=found.class_names,
            name=f"{request.name}/{split}",
        )
        for split, pairs in found.splits.items()
    }
    train, validation, test = splits["train"], splits.get("validation"), splits["test"]
    if size is not None:
        train = train.subset(size, seed)
    if validation_fraction:
        train, validation = train.split(validation_fraction, seed)
    return Splits(train, validation, test)


def _check_no_images(name: str, image_size: Any, statistics: Any) -> None:
    if image_size is not None:
        raise ValueError(
            f"`image_size` is for images. Received: image_size={image_size!r} for {name}, which "
            "holds sentences. Leave it out."
        )
    if not isinstance(statistics, str) or statistics != "computed":
        raise ValueError(
            f"`statistics` are for images. Received: statistics={statistics!r} for {name}, which "
            "holds sentences. Leave them out."
        )


def _check_numbers(validation_fraction: float, size: int | None, seed: int) -> None:
    """Raises what can be known to be wrong before minutes are spent on reading."""
    expected = "a number of at least 0 and below 1, such as 0.1"
    if not 0 <= as_number(validation_fraction, "validation_fraction", expected) < 1:
        raise ValueError(
            "`validation_fraction` must be at least 0 and below 1. Received: "
            f"validation_fraction={validation_fraction!r}."
        )
    if size is not None:
        as_integer(size, "size", 1)
    as_integer(seed, "seed", 0)


def _check_statistics(chosen: DataSet, name: str, statistics: Statistics) -> None:
    """The same of what is known of the data set."""
    one_pixel = np.zeros((1, 1 if chosen.kind == "spectrograms" else 3), np.uint8)
    chosen_statistics(statistics, one_pixel, name)


def _checked_folder(data_dir: Any) -> Path | None:
    if data_dir is None:
        return None
    if not isinstance(data_dir, str | os.PathLike):
        raise TypeError(
            f"`data_dir` must be a folder, as a string or a Path. Received: data_dir={data_dir!r} "
            f"of type {type(data_dir).__name__}. Leave it out for the folder that TFDS uses."
        )
    return Path(data_dir).expanduser()


def _samples(published: Published, split: str, name: str, kind: str) -> Samples:
    features, labels = published.splits[split]
    channels = features.shape[-1]
    return Samples.from_arrays(
        features,
        labels,
        class_names=published.class_names,
        name=f"{name}/{split}",
        # Known only when it is known which samples are left in train.
        statistics=((0.0,) * channels, (1.0,) * channels),
        kind=kind,
    )


def _checked_size(image_size: int | None, chosen: DataSet) -> int:
    size = chosen.size if image_size is None else as_integer(image_size, "image_size", 8)
    if chosen.kind == "spectrograms" and size > 64:
        raise ValueError(
            f"Spectrograms have from 8 to 64 mel bins. Received: image_size={image_size!r}."
        )
    return size
