"""What every distillation loss is, on logits or on inner layers: a reader of the lesson."""

from keras_ats._keras import reduce_weighted_values
from keras_ats.configurable import Configurable
from keras_ats.ops.positions import weights_of_positions
from keras_ats.record import Lesson, Needs, Shapes
from keras_ats.types import Tensor


class DistillationLoss(Configurable):
    """Base of all losses that a distiller can be compiled with.

    A loss says in `needs` what it must be shown, may make layers of its own in `build`, and reads
    the lesson in `parts`. Its variables and layers are trained, saved and resumed with the
    distiller, and are no part of the student. For a loss on logits subclass `KDLoss`.

    Attributes:
        name: What the loss is logged by.
        needs: What `parts` reads. Defaults to logits alone.
        reduction: How `reduce` averages. Defaults to `"sum_over_batch_size"`.

    Example:

    ```python
    class Hint(keras_ats.losses.DistillationLoss):
        "Mean squared difference of two inner layers."

        name = "hint"

        def __init__(self, student_layer, teacher_layer):
            self.student_layer, self.teacher_layer = student_layer, teacher_layer
            self.needs = keras_ats.Needs(
                student_features=(student_layer,), teacher_features=(teacher_layer,)
            )

        def build(self, student, teacher):
            self.projector = keras.layers.Dense(teacher.features[self.teacher_layer][-1])
            self.projector.build(student.features[self.student_layer])

        def parts(self, lesson):
            student = self.projector(lesson.student.features[self.student_layer])
            difference = student - lesson.teacher.features[self.teacher_layer]
            values = keras.ops.mean(keras.ops.square(difference), axis=-1)
            return {self.name: self.reduce(values, lesson.sample_weight)}
    ```
    """

    name: str = "distillation_loss"
    needs: Needs = Needs()
    reduction: str | None = "sum_over_batch_size"

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of what `parts` returns, known before the first batch."""
        return (self.name,)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Makes layers of the loss, such as projectors; called once, before training.

        Args:
            student: Shapes of the student's logits, and of the layers that `needs` names.
            teacher: The teacher's.
        """

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the unweighted value of each part by its name; their sum is the loss.

        Args:
            lesson: What student and teacher said of the batch.

        Returns:
            float32 scalars.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `parts`.")

    def reduce(
        self, values: Tensor, sample_weight: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Weighs and averages as Keras's own losses do, also under `tf.distribute`.

        Args:
            values: float32 tensor of shape `(...,)`.
            sample_weight: Weight of each position, `(...,)`, or of each sample, `(B,)`.
            mask: Bool tensor of shape `(...,)`, True for valid positions.

        Returns:
            float32 scalar; shape `(...,)` with `reduction="none"`.
        """
        return reduce_weighted_values(
            values,
            sample_weight=weights_of_positions(sample_weight, values),
            mask=mask,
            reduction=self.reduction,
            dtype="float32",
        )
