"""Labelled samples in memory: subsets, splits, and batches for training."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras_ats.checks import as_boolean, as_integer
from keras_ats.data import arrays, sampling
from keras_ats.data.arrays import Array
from keras_ats.data.batches import pipeline
from keras_ats.data.batches.augmentation import augmentation, checked_padding
from keras_ats.data.batches.counting import number_of_batches
from keras_ats.data.batches.mixing import as_mixing
from keras_ats.data.batches.transforms import normalisation
from keras_ats.data.statistics import (
    Channels,
    Statistics,
    checked_statistics,
    chosen_statistics,
    scale_of,
)
from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Labelled images or spectrograms in memory, which know who they are.

    Held as one array, samples can be shuffled all at once, and any epoch can be made again: what
    a network sees in an epoch depends on the seed, the epoch and the samples' ids, not on what ran
    before. `load` makes these of published data sets, `Samples.from_arrays` of your own arrays.

    Args:
        features: `(n, height, width, channels)`, uint8 from 0 to 255; or float32, also `(n, ...)`.
        labels: `(n,)`, int32, class ids from 0.
        ids: `(n,)`, int64, place in the published split. A subset keeps the ids of its samples.
        class_names: Name of each class.
        name: Data set and split that the ids count in, such as "cifar10/train".
        mean: Of each channel, taken away from the features. Bytes are divided by 255 before.
        std: Of each channel, what they are divided by then.
        kind: "images" or "spectrograms"; decides what augmentation does.

    Example:

    ```python
    x = np.random.randint(0, 256, (40, 32, 32, 3), "uint8")
    y = np.arange(40) % 10
    train, validation = keras_ats.data.Samples.from_arrays(x, y).split(0.25)

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(
        train.batches(8, shuffle=True, augment=True),
        steps_per_epoch=train.steps(8),
        validation_data=validation.batches(8),
        epochs=2,
        verbose=0,
    )
    ```
    """

    features: Array
    labels: Array
    ids: Array
    class_names: tuple[str, ...]
    name: str
    mean: Channels
    std: Channels
    kind: str = "images"

    def __post_init__(self) -> None:
        arrays.check_words(self.name, self.kind)
        features = arrays.checked_features(self.features)
        labels = arrays.checked_labels(self.labels, len(features))
        mean, std = checked_statistics(self.mean, self.std, features.shape[-1])
        # Where a frozen dataclass keeps its fields.
        vars(self).update(
            features=features,
            labels=labels,
            ids=arrays.checked_ids(self.ids, len(features)),
            class_names=arrays.checked_class_names(self.class_names, labels),
            mean=mean,
            std=std,
        )

    @classmethod
    def from_arrays(
        cls,
        features: Any,
        labels: Any,
        *,
        ids: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        statistics: Statistics = "computed",
        kind: str = "images",
    ) -> "Samples":
        """Makes samples of arrays, with all that is left out filled in.

        Args:
            features: As in the class.
            labels: `(n,)` or `(n, 1)`, integers.
            ids: `(n,)`, different integers from 0 up. Defaults to 0, 1, 2 and so on.
            class_names: Defaults to "0", "1" and so on, up to the highest label.
            name: Of the data set.
            statistics: As for `load`. Give test samples those of the training samples:
                `(train.mean, train.std)`.
            kind: "images" or "spectrograms".

        Returns:
            The samples.

        Raises:
            TypeError: If a name is not a string.
            ValueError: If the arrays do not fit together.

        Example:

        ```python
        (x, y), (x_test, y_test) = [
            (np.random.randint(0, 256, (8, 32, 32, 3), "uint8"), np.arange(8) % 2) for _ in range(2)
        ]
        train = keras_ats.data.Samples.from_arrays(x, y)
        test = keras_ats.data.Samples.from_arrays(
            x_test, y_test, statistics=(train.mean, train.std)
        )
        ```
        """
        arrays.check_words(name, kind)
        features = arrays.checked_features(features)
        labels = arrays.checked_labels(labels, len(features))
        mean, std = chosen_statistics(statistics, features, name)
        return cls(
            features=features,
            labels=labels,
            ids=ids,
            class_names=arrays.checked_class_names(class_names, labels),
            name=name,
            mean=mean,
            std=std,
            kind=kind,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"Samples('{self.name}': {len(self)} {self.kind} of shape {self.features.shape[1:]}, "
            f"{self.features.dtype}, {len(self.class_names)} classes)"
        )

    def subset(self, size: int, seed: int = 0) -> "Samples":
        """Draws a class-balanced subset, without replacement.

        With the same seed a smaller subset lies within a larger one.

        Args:
            size: Number of samples. Where the classes cannot all have the same number, the first
                ones have one more.
            seed: At least 0. Defaults to 0.

        Returns:
            The subset in the same order, with ids and statistics of the whole.

        Raises:
            TypeError: If a number is not an integer.
            ValueError: If a class has too few samples.
        """
        return self._where(sampling.balanced(self.labels, self.class_names, size, seed))

    def split(self, fraction: float, seed: int = 0) -> tuple["Samples", "Samples"]:
        """Carves off a part that has the classes in the same proportions.

        Args:
            fraction: Of each class, above 0 and below 1. The part has `fraction * len(self)`
                samples, rounded; each class is within one sample of its share.
            seed: At least 0. Defaults to 0.

        Returns:
            The rest, and the part.

        Raises:
            TypeError: If `fraction` is not a number, or `seed` not an integer.
            ValueError: If the part would be empty, or would take all samples of a class.
        """
        chosen = sampling.proportional(self.labels, self.class_names, fraction, seed)
        return self._where(~chosen), self._where(chosen)

    def steps(self, batch_size: int, drop_remainder: bool = False) -> int:
        """Number of batches in an epoch, for `fit(steps_per_epoch=...)`.

        Args:
            batch_size: Samples in a batch.
            drop_remainder: Whether `batches` leaves out a last, smaller batch.

        Returns:
            At least 1.

        Raises:
            TypeError: If `batch_size` is not an integer, or `drop_remainder` no boolean.
            ValueError: If there is no whole batch and smaller ones are left out.
        """
        return number_of_batches(len(self), batch_size, drop_remainder)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        augment: bool = False,
        padding: int | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        with_ids: bool = False,
        drop_remainder: bool = False,
        views: int | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> Any:
        """Makes a `tf.data.Dataset` of normalised batches, for `fit` on any backend.

        Without `shuffle` it is one pass in order. With it the dataset never ends: epoch
        `first_epoch`, then the next, each in an order of its own. Tell `fit` where an epoch ends,
        and a run that was stopped goes on with the very batches that it would have seen:

            fit(samples.batches(128, shuffle=True, augment=True, first_epoch=done),
                steps_per_epoch=samples.steps(128), initial_epoch=done, epochs=240)

        Args:
            batch_size: Samples in a batch.
            shuffle: Whether to draw a new order in every epoch.
            augment: Images: pad with black (the value 0, before normalisation), crop at random,
                flip left to right every second time. Spectrograms: shift in time, silence comes
                in. A sample's draw does not depend on the batch size or on the other samples.
            padding: Pixels that a crop may move by, or frames that a shift may. Defaults to an
                eighth of the height, 4 for 32 and 8 for 64 pixels, and to a tenth of the frames.
            seed: Of orders and augmentation, at least 0.
            first_epoch: The epoch that comes first, counted from 0.
            with_ids: Whether to yield `(features, labels, ids)`, to precompute something for each
                sample. Not for `fit`, which takes a third element for sample weights.
            drop_remainder: Whether to leave out a last, smaller batch. All batches then have one
                static shape, which sharding over several processes needs.
            views: How many different pictures there are of a sample: epoch e shows picture e
                modulo `views`, in an order of its own. None (default) makes new ones for ever.
            mixup: Concentration of the Beta distribution that the share of a sample is drawn from,
                the rest being another sample's (Zhang et al., 2018); 0 (default) for none.
            cutmix: The same for a box that is another sample's (Yun et al., 2019). With both, each
                sample gets one of the two. Partner and share depend on seed, view and id alone.

        Returns:
            Dataset of `(features, labels)`: float32 `(batch, ...)`, int32 `(batch,)`; with
            `with_ids` also int64 `(batch,)`. Mixed labels are rows, float32 `(batch, classes)`.

        Raises:
            ImportError: If TensorFlow is not installed.
            TypeError: If a number is not an integer, or a switch no boolean.
            ValueError: If an argument does not fit the samples.
        """
        parts = 3 if as_boolean(with_ids, "with_ids") else 2

        def finish(*known: Tensor) -> tuple[Tensor, ...]:
            return known[:parts]

        return self._batches(
            finish,
            batch_size=batch_size,
            shuffle=shuffle,
            augment=augment,
            padding=padding,
            seed=seed,
            first_epoch=first_epoch,
            drop_remainder=drop_remainder,
            views=views,
            mixup=mixup,
            cutmix=cutmix,
        )

    def _batches(
        self,
        finish: pipeline.Finish,
        *,
        batch_size: int,
        shuffle: bool = False,
        augment: bool = False,
        padding: int | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        drop_remainder: bool = False,
        views: int | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        chosen: Iterable[tuple[Array, Array]] | None = None,
    ) -> Any:
        """As `batches`, with elements that `finish` makes; for other batches see `Options`."""
        self.steps(batch_size, drop_remainder)
        seed = _as_int64(seed, "seed")
        shape = self.features.shape
        options = pipeline.Options(
            batch_size=min(as_integer(batch_size, "batch_size"), len(self)),
            shuffle=as_boolean(shuffle, "shuffle"),
            seed=seed,
            first_epoch=_as_int64(first_epoch, "first_epoch"),
            drop_remainder=as_boolean(drop_remainder, "drop_remainder"),
            views=None if views is None else as_integer(views, "views"),
            classes=len(self.class_names),
            mixing=as_mixing(mixup, cutmix, shape),
            chosen=chosen,
        )
        padding = checked_padding(padding, self.kind, shape)
        transforms = [normalisation(self.mean, self.std, scale_of(self.features))]
        if as_boolean(augment, "augment"):
            transforms.insert(0, augmentation(self.kind, shape, padding, seed))
        return pipeline.dataset(self._tensors, transforms, options, finish)

    @functools.cached_property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features, labels and ids, copied to TensorFlow once for all datasets made of them."""
        tf = import_tensorflow()
        with tf.device("CPU:0"):
            return tf.constant(self.features), tf.constant(self.labels), tf.constant(self.ids)

    def _where(self, chosen: Array) -> "Samples":
        return replace(
            self,
            features=self.features[chosen],
            labels=self.labels[chosen],
            ids=self.ids[chosen],
        )


def _as_int64(value: Any, name: str) -> int:
    number = as_integer(value, name, 0)
    if number >= 2**63:
        raise ValueError(f"`{name}` must be below 2**63. Received: {name}={value!r}.")
    return number
