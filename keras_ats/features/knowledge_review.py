"""Knowledge review (ReviewKD)."""

from typing import Any, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.feature_map import common_mask, masked
from keras_ats.features.projectors import Stack, dense, with_channels
from keras_ats.ops.pyramid import hierarchical_difference, nearest_resized
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class KnowledgeReview(FeatureLoss):
    r"""Lets each level of the teacher review all deeper levels of the student.

    A teacher's early layers are taught by what the student knows later. From deep to shallow, what
    the student says is fused with what is left of the levels before, by weights of attention, and
    each fusion is compared with the teacher's level at several sizes.

    $$L = \sum_l \frac{\sum_k w_k \, \mathrm{mean}\big((\mathrm{pool}_k u_l -
    \mathrm{pool}_k t_l)^2\big)}{\sum_k w_k}$$

    at full size ($w = 1$) and pooled to 4, 2 and 1 ($w = 1/2, 1/4, 1/8$). $u_l$ is a 3x3
    convolution of $v_l = a_1 \odot c(s_l) + a_2 \odot v_{l + 1}$, $c$ a 1x1 convolution to the
    inner width and $a_1$, $a_2$ maps of a sigmoid; all convolutions with BatchNormalization. The
    authors' lists end with the vector before the classifier. Their weight grows over 20 epochs,
    `callbacks.KDWeightWarmup(20)`, up to 1 to 8 by pair. BatchNormalization **depends on the
    batch**: under `tf.distribute` each replica has statistics of its own.

    Args:
        student_layers: As for `FeatureLoss`, shallow to deep.
        teacher_layers: As for `FeatureLoss`, shallow to deep.
        channels: The inner width; None (default) as the deepest of the student's layers, at most
            512.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `channels` is below 1.

    Example:

    ```python
    loss = keras_ats.features.KnowledgeReview(["stage2", "pool"], ["stage2", "pool"])
    student = [np.random.rand(2, 8, 8, 16), np.random.rand(2, 16)]
    teacher = [np.random.rand(2, 8, 8, 32), np.random.rand(2, 32)]
    loss(student, teacher)
    ```

    Reference: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021,
    arXiv 2104.09044; agrees with the authors' code and mdistiller.
    """

    has_levels = True

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        channels: int | None = None,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.channels = None if channels is None else checks.as_integer(channels, "channels")
        self.fusions: list[Fusion] = []
        self._rank = 2

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes a fusion for each level."""
        deepest: Any = student[-1][-1]
        inner = self.channels or min(512, deepest)
        self._rank = max(len(shape) for shape in (*student, *teacher))
        self.fusions = []
        for index, pair in enumerate(zip(student, teacher, strict=True)):
            own, wanted = (_of_rank(shape, self._rank) for shape in pair)
            channels: Any = wanted[-1]
            self.fusions.append(Fusion(own, inner, channels, index < len(student) - 1))

    def adapt(
        self, student: list[FeatureMap], teacher: list[FeatureMap], training: bool
    ) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Returns the fusions in the student's place, as large as the teacher's levels."""
        teacher = [one._replace(values=_as_map(one.values, self._rank)) for one in teacher]
        fused: list[FeatureMap] = []
        rest = None
        for own, wanted, fusion in reversed(list(zip(student, teacher, self.fusions, strict=True))):
            values = _as_map(own.values, self._rank)
            sizes = tuple(wanted.values.shape)[1:-1]
            said, rest = fusion(values, rest, sizes=sizes, training=training)
            # A mask counts where its layer has the positions that are compared.
            here = [one for one in (own, wanted) if tuple(one.values.shape)[1:-1] == sizes]
            fused.append(masked(said, [common_mask(*here)]))
        return fused[::-1], teacher

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        return hierarchical_difference(student.values, teacher.values, student.mask)


class Fusion(keras.layers.Layer):
    """One level of the student, fused with what is left of the deeper ones.

    Args:
        shape: Shape of the level.
        inner: Width of what is handed on.
        channels: Width of the teacher's level.
        has_rest: Whether there is a deeper level.
    """

    def __init__(self, shape: Shape, inner: int, channels: int, has_rest: bool) -> None:
        super().__init__(dtype="float32")
        narrow = with_channels(shape, inner)
        self.first = Stack(shape, [(inner, 1)], last_activation=False)
        self.second = Stack(narrow, [(channels, 3)], last_activation=False)
        self.attention = dense(with_channels(shape, 2 * inner), 2) if has_rest else None
        self.built = True

    def call(
        self, inputs: Tensor, rest: Tensor | None, *, sizes: Shape, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns what is compared, and what is handed on."""
        values = self.first(inputs, training=training)
        if self.attention is not None:
            rest = nearest_resized(rest, tuple(values.shape)[1:-1])
            both = self.attention(ops.concatenate([values, rest], axis=-1))
            attention = ops.sigmoid(both)
            values = values * attention[..., :1] + rest * attention[..., 1:]
        values = nearest_resized(values, sizes)
        return self.second(values, training=training), values


def _of_rank(shape: Shape, rank: int) -> Shape:
    """The shape of a level; a vector's is that of a map of one position."""
    return (shape[0], *(1,) * (rank - 2), shape[-1]) if len(shape) == 2 else shape


def _as_map(values: Tensor, rank: int) -> Tensor:
    if len(values.shape) > 2:
        return values
    return ops.reshape(values, (ops.shape(values)[0], *(1,) * (rank - 2), values.shape[-1]))
