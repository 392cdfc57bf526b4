"""The overhaul of feature distillation (OFD)."""

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import (
    FeatureLoss,
    FeatureMap,
    FeatureOptions,
    Layers,
    as_layers,
    names_of,
)
from keras_ats.features.feature_map import alike
from keras_ats.features.projectors import Stack
from keras_ats.ops.feature_maps import as_positions
from keras_ats.ops.margins import negative_means, partial_squares
from keras_ats.record import Shapes
from keras_ats.types import Shape, Tensor
from keras_ats.views.features import find_layer


@keras.saving.register_keras_serializable(package="keras_ats")
class FeatureOverhaul(FeatureLoss):
    r"""Matches what the teacher's units say above zero, and that they are off where they are.

    Compared is what comes before the ReLUs. What is above zero in the teacher is to be met; below
    it only matters that the student is low enough too.

    $$L = \sum_l 2^{l - L} \, \frac{1}{B} \sum_{b, n, c} d\big((r_l s_l)_{b n c},
    \max(t_{b n c}, m_c)\big)$$

    with $d(s, t) = 0$ where $s \le t \le 0$ and $(s - t)^2$ elsewhere, and the margin $m_c$ the
    mean of a channel's negative values, which its BatchNormalization tells when `compile` is
    called. $r$ is a convolution with BatchNormalization, whose statistics **depend on the batch**:
    under `tf.distribute` each replica has its own. The teacher's map is averaged to the student's
    sizes. A sum over all values, so that weights are small: 0.001 in the authors' code.

    Args:
        student_layers: As for `FeatureLoss`: layers before their ReLU.
        teacher_layers: As for `FeatureLoss`: layers before their ReLU.
        normalizations: The teacher's BatchNormalization before each of these, from which the
            margins come. None (default) where the layers are those; a sum of two branches has the
            one that it ends in.
        kernel_size: Of the convolution. Defaults to 1.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there are not as many `normalizations` as layers.

    Example:

    ```python
    def network(width):
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(width, 3),
                keras.layers.BatchNormalization(name="before"),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )

    distiller = keras_ats.Distiller(network(8), network(4))
    loss = keras_ats.features.FeatureOverhaul("before", "before")
    distiller.compile(kd_loss=loss, kd_weight=0.001, student_weight=1.0)
    ```

    Reference: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
    arXiv 1904.01866; agrees with mdistiller where both networks have as many stages.
    """

    ranks = (3, 4, 5)
    same_ranks = True
    has_levels = True

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        normalizations: Layers | None = None,
        kernel_size: int = 1,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.normalizations = (
            None if normalizations is None else as_layers(normalizations, "normalizations")
        )
        if len(self._normalization_names) != len(self.teacher_names):
            raise ValueError(
                "Each layer of the teacher needs its BatchNormalization. Received: "
                f"teacher_layers={teacher_layers!r}, normalizations={normalizations!r}."
            )
        self.kernel_size = checks.as_integer(kernel_size, "kernel_size")
        self.connectors: list[keras.layers.Layer] = []
        # Saved: in a file that is being read, the teacher has no weights yet.
        self.margins: list[keras.Variable] = []
        self._layers: list[Any] = []

    def check_models(self, student: Shapes, teacher: Shapes) -> None:
        """Finds the teacher's BatchNormalization layers."""
        if teacher.model is None:
            return
        layers = [
            find_layer(teacher.model, name, "teacher")[-1] for name in self._normalization_names
        ]
        for layer in layers:
            if not isinstance(layer, keras.layers.BatchNormalization):
                raise ValueError(
                    f"FeatureOverhaul takes its margins from a BatchNormalization of the teacher. "
                    f"Received: '{layer.name}', a {type(layer).__name__}. Pass normalizations=, "
                    "the names of the BatchNormalization layers before the teacher's layers."
                )
        for layer, margin in zip(layers, self.margins, strict=False):
            margin.assign(_margins(layer))
        # In a function: what a loss holds is saved with it.
        self._layers = [lambda layer=layer: layer for layer in layers]

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes a connector for each of the student's layers."""
        self.connectors, self.margins = [], []
        for index, (of_student, of_teacher) in enumerate(zip(student, teacher, strict=True)):
            channels: Any = of_teacher[-1]
            self.connectors.append(
                Stack(of_student, [(channels, self.kernel_size)], last_activation=False)
            )
            values = _margins(self._layers[index]()) if self._layers else np.zeros(channels)
            self.margins.append(
                keras.Variable(
                    values, dtype="float32", trainable=False, autocast=False, name="margin"
                )
            )

    def adapt(
        self, student: list[FeatureMap], teacher: list[FeatureMap], training: bool
    ) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Returns the student's layers connected, and the teacher's of their sizes."""
        pairs = [
            alike(one, other, sizes=tuple(one.values.shape)[1:-1])
            for one, other in zip(student, teacher, strict=True)
        ]
        student = [
            one._replace(values=connector(one.values, training=training, mask=one.mask))
            for (one, _), connector in zip(pairs, self.connectors, strict=True)
        ]
        return student, [other for _, other in pairs]

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        margin = ops.convert_to_tensor(self.margins[index])
        values = partial_squares(student.values, teacher.values, margin)
        if student.mask is not None:
            values = ops.where(ops.expand_dims(student.mask, -1), values, 0.0)
        return ops.sum(as_positions(values), axis=(1, 2))

    def weight_of_pair(self, index: int) -> float:
        """Returns half the weight of the next deeper pair."""
        return 2.0 ** (index + 1 - len(self.student_names))

    @property
    def _normalization_names(self) -> list[str]:
        given = self.teacher_layers if self.normalizations is None else self.normalizations
        return names_of(given)


def _margins(layer: keras.layers.BatchNormalization) -> Any:
    """Margins of a layer's channels; without scale or shift these are 1 and 0."""
    channels = layer.moving_mean.shape
    scale = np.ones(channels) if layer.gamma is None else ops.convert_to_numpy(layer.gamma)
    shift = np.zeros(channels) if layer.beta is None else ops.convert_to_numpy(layer.beta)
    return negative_means(scale, shift)
