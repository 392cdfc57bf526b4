"""Class attention transfer (CAT-KD)."""

from typing import Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.heads import ClassMaps, class_maps
from keras_ats.ops.class_maps import pooled_activations
from keras_ats.record import Shapes
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ClassAttention(FeatureLoss):
    r"""Matches where in a sample both models see each class.

    A linear classifier that reads the mean of a layer can as well be put to each of its positions:
    the logits there, whose mean are the model's, show where a class is seen. These maps have the
    classes for channels, so that no projector is needed.

    $$L = \frac{1}{C N} \sum_{c, n} (a^S_{n c} - a^T_{n c})^2$$

    with the maps averaged to $r \times r = N$ positions and, with `normalize`, each class's map
    brought to length 1. The authors' weight is 400, and 15 without normalisation, which is what
    they use on CIFAR-100.

    Args:
        student_layers: The layer whose mean over positions the student's classifier, a `Dense`
            layer, reads; or one that has class maps already.
        teacher_layers: The same of the teacher.
        resolution: $r$, size of the maps along each axis. Defaults to 2.
        normalize: Whether each map gets length 1. Defaults to True.
        binarize: Whether the teacher's maps become 1 where they are above their mean distance from
            0, and 0 elsewhere. Defaults to False.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `resolution` is below 1.

    Example:

    ```python
    loss = keras_ats.features.ClassAttention("maps", "maps", resolution=2)
    maps = np.random.rand(2, 8, 8, 10)
    loss(maps, 2.0 * maps)  # 0.0
    ```

    Reference: Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023,
    arXiv 2304.12777; agrees with the authors' code.
    """

    ranks = (3, 4, 5)

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        resolution: int = 2,
        normalize: bool = True,
        binarize: bool = False,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.resolution = checks.as_integer(resolution, "resolution")
        self.normalize = checks.as_boolean(normalize, "normalize")
        self.binarize = checks.as_boolean(binarize, "binarize")
        # Functions: the heads are the models', and not saved with the loss.
        self._maps: list[list[ClassMaps | None]] = []

    def check_models(self, student: Shapes, teacher: Shapes) -> None:
        """Finds the classifiers."""
        name = type(self).__name__
        self._maps = [
            [
                class_maps(shapes, of_layer, layer, name, role)
                for of_layer, layer in zip(
                    self.shapes_of(shapes, layers, role), layers, strict=True
                )
            ]
            for shapes, layers, role in (
                (student, self.student_names, "student"),
                (teacher, self.teacher_names, "teacher"),
            )
        ]

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each sample, `(B,)`."""
        of_student, of_teacher = (
            _mapped(one, maps[index])
            for one, maps in zip((student, teacher), self._maps, strict=True)
        )
        of_student = pooled_activations(of_student, self.resolution, normalize=self.normalize)
        of_teacher = pooled_activations(
            ops.stop_gradient(of_teacher),
            self.resolution,
            normalize=self.normalize,
            binarize=self.binarize,
        )
        return ops.mean(ops.square(of_student - of_teacher), axis=(1, 2))


def _mapped(one: FeatureMap, maps: ClassMaps | None) -> Tensor:
    values = one.values if maps is None else maps(one.values)
    return values if one.mask is None else ops.where(ops.expand_dims(one.mask, -1), values, 0.0)
