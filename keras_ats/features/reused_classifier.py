"""The teacher's classifier reused (SimKD)."""

from typing import Any, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.features.exported import exported_student
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions
from keras_ats.features.heads import check_classifier
from keras_ats.features.projectors import Stack
from keras_ats.ops.feature_maps import smaller_sizes
from keras_ats.record import Shapes
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ReusedClassifier(FeatureLoss):
    r"""Teaches the student the layer that the teacher's classifier reads, and reuses that.

    Much of what a teacher knows may be in its classifier. The student's last layer is projected to
    the teacher's, and what comes out goes into the teacher's own classifier, which need not be
    learned again. The student that is deployed has the projector and that classifier:
    `export_student`.

    $$L = \frac{1}{N C} \sum_{n, c} (P(s)_{n c} - t_{n c})^2$$

    with $P$ a 1x1, a 3x3 and a 1x1 convolution, each with BatchNormalization and a ReLU; the larger
    of two maps is averaged to the smaller one's sizes. The authors train with this loss alone,
    `compile(loss=None, kd_weight=1.0, ...)`; the student's own head then learns nothing, and is
    best frozen.
    BatchNormalization **depends on the batch**: under `tf.distribute` each replica has statistics
    of its own.

    Args:
        student_layers: Name of the student's last layer before its pooling.
        teacher_layers: Name of the layer whose mean over positions the teacher's classifier, a
            `Dense` layer, reads.
        factor: By how much the inner convolutions are narrower than the teacher's layer. Defaults
            to 2.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `factor` is below 1.

    Example:

    ```python
    def network(width):
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Conv2D(width, 3, activation="relu", name="last"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3),
            ]
        )

    loss = keras_ats.features.ReusedClassifier("last", "last")
    distiller = keras_ats.Distiller(network(8), network(4))
    distiller.compile(loss=None, kd_loss=loss, kd_weight=1.0, student_weight=0.0)
    model = loss.export_student(distiller)
    ```

    Reference: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    arXiv 2203.14001; agrees with the authors' code.
    """

    takes_lists = False
    same_ranks = True
    pairs_positions = True

    def __init__(
        self,
        student_layers: str,
        teacher_layers: str,
        *,
        factor: int = 2,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.factor = checks.as_integer(factor, "factor")
        self.projectors: list[Stack] = []
        self.sizes: Shape = ()

    def check_models(self, student: Shapes, teacher: Shapes) -> None:
        """Looks for the teacher's classifier."""
        check_classifier(teacher, self.teacher_names[0], type(self).__name__, "teacher")

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes the projector."""
        channels: Any = teacher[0][-1]
        inner = max(channels // self.factor, 1)
        self.sizes = smaller_sizes(student[0], teacher[0])
        shape = (None, *self.sizes, student[0][-1])
        self.projectors = [Stack(shape, [(inner, 1), (inner, 3), (channels, 1)])]

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each position, `(B, ...)`."""
        return ops.mean(ops.square(student.values - teacher.values), axis=-1)

    def adapt(
        self, student: list[FeatureMap], teacher: list[FeatureMap], training: bool
    ) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Returns the student's layer projected, and both of the smaller sizes."""
        (one,), teacher = super().adapt(student, teacher, training)
        values = self.projectors[0](one.values, training=training, mask=one.mask)
        return [one._replace(values=values)], teacher

    @property
    def data_format_of_student(self) -> str:
        """Where the student's layer has its channels, once that is known."""
        return self._data_formats[0][self.student_names[0]]

    def export_student(self, distiller: keras.Model) -> keras.Model:
        """Returns the student with the projector and the teacher's classifier, as one plain model.

        It shares the student's layers up to the named one; projector and classifier are copies.

        Args:
            distiller: The distiller that was trained with this loss.

        Returns:
            A Functional model of Keras's own layers, which returns what the teacher's classifier
            does.

        Raises:
            ValueError: If the distiller was not compiled with this loss, or the student's layer is
                one of a nested model.
        """
        return exported_student(self, distiller)
