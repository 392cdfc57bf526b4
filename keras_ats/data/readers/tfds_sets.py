"""The data sets that TensorFlow Datasets prepares."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_ats.data.readers.batch_reader import BatchReader
from keras_ats.data.readers.published import Published, Request, Split
from keras_ats.data.readers.squares import square
from keras_ats.data.spectrograms import log_mel
from keras_ats.data.tensorflow_modules import import_tensorflow, import_tensorflow_datasets
from keras_ats.types import Tensor

_BATCH = 256


def read_images(request: Request) -> Published:
    """Reads a data set of TFDS with the features `image` and `label`."""
    return _read(request, _Form("image", 3, "uint8", _resized))


def read_speech(request: Request) -> Published:
    """Reads a data set of TFDS with the features `audio` and `label`, as spectrograms."""
    return _read(request, _Form("audio", 1, "float32", log_mel))


class _Form(NamedTuple):
    feature: str
    channels: int
    dtype: str
    convert: Callable[[Tensor, int], Tensor]


def _read(request: Request, form: _Form) -> Published:
    builder = _builder(request)
    class_names = _class_names(builder, request)
    wanted = {"train", "test"} | ({"validation"} if request.with_validation else set())
    splits = {
        split: _read_split(builder, request, split, form)
        for split in builder.info.splits
        if split in wanted
    }
    return Published(splits, class_names)


def _builder(request: Request) -> Any:
    """The data set's builder, which reads only: nothing is prepared or downloaded."""
    tfds = import_tensorflow_datasets()
    data_dir = None if request.data_dir is None else str(request.data_dir)
    try:
        builder = tfds.builder(request.name, data_dir=data_dir)
    except Exception as error:  # The parsers of its files have no error in common.
        raise ValueError(
            f"The description of {request.name} in {data_dir or 'the default folder'} cannot be "
            f"read. Received: {_first_line(error)} Expected: what TFDS {tfds.__version__} writes. "
            f"Delete it and prepare it again: {_command(request)}"
        ) from error
    missing = {"train", "test"} - set(builder.info.splits)
    if missing:
        raise FileNotFoundError(
            f"There is no prepared {request.name} in {builder.data_path}. Expected: the splits "
            f"train and test; missing: {sorted(missing)}. Nothing is downloaded by itself. To "
            f"download and prepare it: {_command(request)}"
        )
    return builder


def _class_names(builder: Any, request: Request) -> tuple[str, ...]:
    class_names = tuple(builder.info.features["label"].names)
    if len(class_names) != request.num_classes:
        raise ValueError(
            f"{request.name} has {request.num_classes} classes. Received: {len(class_names)} names "
            f"of classes in {builder.data_path}. Delete it and prepare it again: "
            f"{_command(request)}"
        )
    return class_names


def _read_split(builder: Any, request: Request, split: str, form: _Form) -> Split:
    tf, tfds = import_tensorflow(), import_tensorflow_datasets()
    dataset = builder.as_dataset(
        split=split,
        # Boxes and masks stay encoded.
        decoders=tfds.decode.PartialDecoding({form.feature: True, "label": True}),
        # Shard after shard, so that a sample's position is its place in the published files.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        shuffle_files=False,
    )
    dataset = dataset.map(
        lambda example: (form.convert(example[form.feature], request.size), example["label"]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    batches: Any = dataset.batch(_BATCH).prefetch(2).as_numpy_iterator()
    count = builder.info.splits[split].num_examples
    shape = (request.size, request.size, form.channels)
    reader = BatchReader(count, shape, form.dtype, request.verbose)
    try:
        return reader.read(batches)
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(
            f"The {split} split of {request.name} cannot be read. Received: after about "
            f"{reader.done} samples: {_first_line(error)} Expected: {count} samples that become "
            f"arrays of shape {shape}. Delete {builder.data_path} and prepare it again: "
            f"{_command(request)}"
        ) from error


def _resized(image: Tensor, size: int) -> Tensor:
    # CIFAR's images have the right size already, and keep every pixel.
    if image.shape == (size, size, 3):
        return image
    return square(image, size)


def _command(request: Request) -> str:
    place = "" if request.data_dir is None else f", data_dir={str(request.data_dir)!r}"
    return f'python -c "import tensorflow_datasets as tfds; tfds.load({request.name!r}{place})"'


def _first_line(error: Exception) -> str:
    """The first line of a message, without TensorFlow's notes on where it ran."""
    line = str(getattr(error, "message", error)).strip().partition("\n")[0]
    return re.sub(r"\{\{.*?\}\} ?| \[Op:.*", "", line)
