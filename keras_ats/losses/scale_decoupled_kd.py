"""Scale-decoupled distillation (SDD)."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_ats import checks
from keras_ats.losses.data_format import as_data_format, data_format_of
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.losses.lookup import get
from keras_ats.ops.class_maps import class_activations, region_means
from keras_ats.ops.feature_maps import channels_last
from keras_ats.ops.labels import are_class_ids
from keras_ats.record import Lesson, Needs, Shapes
from keras_ats.types import Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ScaleDecoupledKD(DistillationLoss):
    r"""Any loss on logits, on those of regions of a picture too.

    The logits of a whole picture mix what its regions show. A linear classifier that reads the mean
    of a layer can read the mean over a region as well, and what the teacher says there is taught
    by itself. Regions where it agrees with the label and with itself on the whole tell the same
    again; the others, where exactly one of the two is right, weigh double.

    $$L = \frac{1}{B N} \sum_{b, n} w_{b n} \, \ell(z_{b n}, f_{b n}), \qquad
    w = 2 \text{ where } [\hat f_{b n} = y_b] \ne [\hat f_{b} = y_b], \text{ else } 1$$

    over the $N$ regions of all scales, with $\ell$ any loss on logits. The authors' SD-KD, SD-DKD
    and SD-NKD are this with those losses; their NKD is one over all classes.

    Args:
        student_layer: Name of the layer whose mean over positions the student's classifier, a
            `Dense` layer, reads.
        teacher_layer: The same of the teacher.
        loss: A loss of `keras_ats.losses` on logits, or its name. Defaults to
            `"temperature_kd"`.
        scales: Regions along each axis, ascending. Defaults to 1, 2 and 4: 21 regions of an image.
        data_format: As for `FeatureLoss`. Defaults to None, as the models' layers say.
        name: What the loss is logged by. Defaults to `"scale_decoupled_kd"`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `scales` are not ascending.

    Example:

    ```python
    ats = keras_ats.losses.AsymmetricTemperatureKD(4, 2)
    loss = keras_ats.losses.ScaleDecoupledKD("stage3", "stage3", ats, scales=(1, 2))
    ```

    Reference: Wei, Luo, Luo, "Scaled Decoupled Distillation", CVPR 2024, arXiv 2403.13512; agrees
    with the authors' code.
    """

    def __init__(
        self,
        student_layer: str,
        teacher_layer: str,
        loss: Any = "temperature_kd",
        *,
        scales: Sequence[int] = (1, 2, 4),
        data_format: Literal["channels_last", "channels_first"] | None = None,
        name: str = "scale_decoupled_kd",
    ) -> None:
        expected = "the name of a layer"
        self.student_layer = checks.as_string(student_layer, "student_layer", expected)
        self.teacher_layer = checks.as_string(teacher_layer, "teacher_layer", expected)
        self.loss = get(loss)
        if not isinstance(self.loss, KDLoss):
            raise TypeError(
                "`loss` must be a loss on logits. Received: "
                f"loss={loss!r}. Expected: such as TemperatureKD(4)."
            )
        given = checks.as_list(scales, "scales", "numbers of regions along an axis, (1, 2, 4)")
        self.scales = tuple(checks.as_integer(scale, "scales") for scale in given)
        if not self.scales or list(self.scales) != sorted(set(self.scales)):
            raise ValueError(f"`scales` must be ascending. Received: scales={scales!r}.")
        self.data_format = as_data_format(data_format)
        self.name = checks.as_string(name, "name", "what the loss is logged by")
        # In functions: the classifiers are the models', and not saved with the loss.
        self._classifiers: list[Any] = []
        self._data_formats: list[str] = []

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The two layers, and labels."""
        of_loss = Needs(labels=True, heads=self.loss.needs.heads)
        return of_loss._replace(
            student_features=(self.student_layer,), teacher_features=(self.teacher_layer,)
        )

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Finds the classifiers.

        Args:
            student: What is known of the student.
            teacher: What is known of the teacher.

        Raises:
            ValueError: If a model does not end in a `Dense` layer on the mean of the named one.
        """
        found = [
            _checked_classifier(student, self.student_layer, "student"),
            _checked_classifier(teacher, self.teacher_layer, "teacher"),
        ]
        self._classifiers = [lambda layer=layer: (layer.kernel, layer.bias) for layer in found]
        self._data_formats = [
            self._data_format_of(student, self.student_layer, "student"),
            self._data_format_of(teacher, self.teacher_layer, "teacher"),
        ]

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the loss of one batch under its name."""
        student, teacher = (
            class_activations(
                region_means(channels_last(outputs.features[layer], data_format), self.scales),
                *classifier(),
            )
            for outputs, layer, classifier, data_format in zip(
                (lesson.student, lesson.teacher),
                (self.student_layer, self.teacher_layer),
                self._classifiers,
                self._data_formats,
                strict=True,
            )
        )
        value = self.of_regions(
            student, teacher, lesson.labels, lesson.sample_weight, lesson.student.mask
        )
        return {self.name: value}

    def _data_format_of(self, shapes: Shapes, layer: str, role: str) -> str:
        shape = shapes.features[layer]
        if len(shape) < 3:
            raise ValueError(
                "ScaleDecoupledKD needs a layer that has positions to take regions of. Received: "
                f"the {role}'s {layer!r} of shape {tuple(shape)}. Expected: the map before the "
                "mean, (B, H, W, C) or (B, T, C)."
            )
        return data_format_of(shapes, layer, self.data_format, f"ScaleDecoupledKD of the {role}")

    def of_regions(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss of the logits of regions, a scalar.

        Args:
            student: Tensor of shape `(B, N, C)`, the whole first.
            teacher: Tensor of the same shape.
            labels: Class ids `(B,)` or rows `(B, C)`.
            sample_weight: Weight of each sample, `(B,)`, or None.
            mask: Bool tensor of shape `(B,)`, True for samples that count, or None.
        """
        teacher = ops.stop_gradient(ops.cast(teacher, "float32"))
        labels, classes = _of_regions(labels, teacher)
        is_right = ops.equal(ops.cast(ops.argmax(teacher, axis=-1), "int32"), classes)
        weights = 1.0 + ops.cast(is_right != is_right[:, :1], "float32")
        if sample_weight is not None:
            weights *= ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        if mask is not None:
            mask = ops.broadcast_to(ops.reshape(mask, (-1, 1)), ops.shape(teacher)[:-1])
        return self.loss(student, teacher, labels=labels, sample_weight=weights, mask=mask)


def _of_regions(labels: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The labels of all regions in their own form, and as class ids `(B, N)`."""
    labels = ops.convert_to_tensor(labels)
    whole = regions[:, 0]
    if are_class_ids(labels, whole):
        ids = ops.cast(ops.reshape(labels, (-1, 1)), "int32")
        ids = ops.broadcast_to(ids, ops.shape(regions)[:-1])
        return ids, ids
    rows = ops.broadcast_to(ops.expand_dims(labels, 1), ops.shape(regions))
    return rows, ops.cast(ops.argmax(rows, axis=-1), "int32")


def _checked_classifier(shapes: Shapes, layer: str, role: str) -> Any:
    found = shapes.classifier
    if found is None or found.reads != layer.rsplit("/", 1)[-1]:
        said = "one that does not" if found is None else f"one that reads {found.reads!r}"
        raise ValueError(
            f"ScaleDecoupledKD needs a {role} that ends in a Dense layer on the mean of the named "
            f"layer. Received: {role}_layer={layer!r} and {said}."
        )
    return found.layer
