"""Images in folders, read with Keras; shared by CINIC-10 and Tiny-ImageNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_ats.data.readers.batch_reader import BatchReader
from keras_ats.data.readers.published import Request, Split
from keras_ats.data.readers.squares import square
from keras_ats.data.tensorflow_modules import import_tensorflow

_BATCH = 256


def find_root(request: Request, archive: str, layout: str) -> Path:
    """Finds the folder that an archive was unpacked to.

    Args:
        request: Its `data_dir` is the folder itself or the one above.
        archive: Name of the data set's own folder.
        layout: What the folder holds, for the error.

    Returns:
        The folder that has a sub-folder `train`.

    Raises:
        FileNotFoundError: If there is none.
    """
    places = [] if request.data_dir is None else [request.data_dir / archive, request.data_dir]
    for place in places:
        if (place / "train").is_dir():
            return place
    raise FileNotFoundError(
        f"There is no {request.name} here. Received: data_dir={str(request.data_dir)!r}. Expected "
        f"in it, or in a folder {archive} in it: {layout}. Get the published archive, unpack it, "
        "and pass the folder; nothing is downloaded by itself."
    )


def read_folder(
    request: Request, folder: Path, published_size: int, labels: Sequence[int] | str, names: Any
) -> Split:
    """Reads all images below a folder.

    Args:
        request: What is wanted.
        folder: With a sub-folder for each class, or with images.
        published_size: Images of another size are brought to this one.
        labels: "inferred" from the sub-folders, or one for each file in alphabetical order.
        names: Sub-folders in the order of their labels, or None.

    Returns:
        Images and labels, by class and by file name.

    Raises:
        ValueError: If an image cannot be read.
    """
    tf = import_tensorflow()
    dataset = keras.utils.image_dataset_from_directory(
        str(folder),
        labels=labels,
        class_names=names,
        batch_size=None,
        image_size=(published_size, published_size),
        shuffle=False,
        data_format="channels_last",
        verbose=False,
    )
    paths = dataset.file_paths

    def convert(image: Any, label: Any) -> Any:
        image = tf.cast(tf.round(image), tf.uint8)
        return image if request.size == published_size else square(image, request.size), label

    dataset = dataset.map(convert, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches: Any = dataset.batch(_BATCH).prefetch(2).as_numpy_iterator()
    shape = (request.size, request.size, 3)
    reader = BatchReader(len(paths), shape, "uint8", request.verbose)
    try:
        return reader.read(batches)
    except tf.errors.OpError as error:
        broken = _first_broken(paths[reader.done : reader.done + _BATCH])
        raise ValueError(
            f"An image of {request.name} cannot be read. Received: {broken}. Expected: a whole "
            "PNG or JPEG file. Unpack the archive again."
        ) from error


def check_folders(request: Request, folder: Path, expected: Sequence[str]) -> None:
    """Raises if the sub-folders are not those of the classes."""
    found = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    if found != set(expected):
        raise ValueError(
            f"{folder} must have one folder for each of the {len(expected)} classes of "
            f"{request.name}. Received: {len(found)} folders; missing: "
            f"{sorted(set(expected) - found)[:5]}; unknown: {sorted(found - set(expected))[:5]}. "
            "Unpack the archive again."
        )


def _first_broken(paths: Sequence[str]) -> str:
    tf = import_tensorflow()
    for path in paths:
        try:
            tf.io.decode_image(tf.io.read_file(path))
        except tf.errors.OpError:
            return path
    return f"one of {paths[0]} to {paths[-1]}"
