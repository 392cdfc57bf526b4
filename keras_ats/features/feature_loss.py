"""The base class of losses on inner layers: all that is not arithmetic, once."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

from keras import ops

from keras_ats import checks
from keras_ats._keras import get_keras_mask
from keras_ats.features.feature_map import FeatureMap as FeatureMap
from keras_ats.features.feature_map import alike, masked
from keras_ats.losses.data_format import as_data_format, data_format_of
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.reduction import Reduction, as_reduction
from keras_ats.ops.feature_maps import channels_last, channels_last_shape
from keras_ats.ops.labels import shapes_fit
from keras_ats.record import Lesson, Needs, Outputs, Shapes
from keras_ats.types import Shape, Tensor

Layers = str | Sequence[str]
"""The name of a layer, or a list of names, shallow to deep."""


class FeatureOptions(TypedDict, total=False):
    """What every loss on inner layers takes besides its own arguments; see `FeatureLoss`."""

    data_format: Literal["channels_last", "channels_first"] | None
    reduction: Reduction | None
    name: str | None


class FeatureLoss(DistillationLoss):
    r"""Base of all losses between inner layers of student and teacher.

    It finds the layers, also in nested models, brings what they say to float32 with channels last,
    keeps gradients away from the teacher and padding away from the loss, and weighs and averages as
    Keras's own losses do. A subclass implements `compare`; layers of its own, such as projectors,
    it makes in `build_layers`. They are trained, saved and resumed with the distiller, and are no
    part of the student. With several pairs of layers the loss is the sum over the pairs.

    Args:
        student_layers: Name of a layer of the student, or a list of names, shallow to deep.
        teacher_layers: Name of the teacher's layer, or as many names.
        data_format: Where layers have their channels, `"channels_last"` or `"channels_first"`. None
            (default): as the convolutions and poolings of each model say; without any, last for
            tokens `(B, T, D)` and as Keras is configured for maps.
        reduction: As for `keras.losses.Loss`. The default `"sum_over_batch_size"` is the mean over
            samples, and over their positions where a loss compares them one by one.
        name: What the loss is logged by. Defaults to the class name in snake case.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the lists are empty or differ in length.

    Attributes:
        takes_lists: Whether it may compare several pairs of layers. Defaults to True.
        ranks: Ranks of what it compares, batch and channels included.
        same_channels: Whether both layers must have as many channels. Defaults to False.
        same_ranks: Whether both layers must have as many axes. Defaults to False.
        same_sizes: Whether both maps must have the same sizes. Defaults to False.
        has_levels: Whether its lists must go from shallow to deep, no map larger than the one
            before. Defaults to False.
        pairs_positions: Whether it compares maps position by position. Then the larger of two maps
            is averaged to the smaller one's sizes, and what either of them masks is left out.
            Defaults to False.

    Example:

    ```python
    class MeanActivity(keras_ats.features.FeatureLoss):
        "How active two layers are, on the whole."

        def compare(self, student, teacher):
            mean = [keras.ops.mean(one.values, axis=(1, 2, 3)) for one in (student, teacher)]
            return keras.ops.square(mean[0] - mean[1])

    loss = MeanActivity("conv", "conv", data_format="channels_last")
    loss(np.ones((2, 4, 4, 3)), np.zeros((2, 8, 8, 5)))  # 1.0
    ```
    """

    takes_lists: bool = True
    ranks: tuple[int, ...] = (2, 3, 4, 5)
    same_channels: bool = False
    same_ranks: bool = False
    same_sizes: bool = False
    has_levels: bool = False
    pairs_positions: bool = False

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        data_format: Literal["channels_last", "channels_first"] | None = None,
        reduction: Reduction | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        self.student_layers = as_layers(student_layers, "student_layers", self.takes_lists)
        self.teacher_layers = as_layers(teacher_layers, "teacher_layers", self.takes_lists)
        if len(self.student_names) != len(self.teacher_names):
            raise ValueError(
                "Each layer of the student needs one of the teacher. Received: "
                f"student_layers={student_layers!r}, teacher_layers={teacher_layers!r}."
            )
        self.data_format = as_data_format(data_format)
        # Of the student's layers and of the teacher's, once they are known.
        self._data_formats: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.reduction = as_reduction(reduction)
        name = checks.snake_case(type(self).__name__) if name is None else name
        self.name = checks.as_string(name, "name", "what the loss is logged by")
        self._built_on: Any = None

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The layers that it reads."""
        return Needs(
            student_features=tuple(self.student_names), teacher_features=tuple(self.teacher_names)
        )

    @property
    def student_names(self) -> list[str]:
        """Names of the student's layers."""
        return names_of(self.student_layers)

    @property
    def teacher_names(self) -> list[str]:
        """Names of the teacher's layers."""
        return names_of(self.teacher_layers)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Checks the shapes of the layers, and makes layers of its own; those that fit are kept.

        Args:
            student: Shapes of what the student says.
            teacher: Shapes of what the teacher says.

        Raises:
            ValueError: If a model does not show its inner layers, or shapes do not fit.
        """
        shapes = (
            self.shapes_of(student, self.student_names, "student"),
            self.shapes_of(teacher, self.teacher_names, "teacher"),
        )
        for index, (of_student, of_teacher) in enumerate(zip(*shapes, strict=True)):
            self._check_pair(index, of_student, of_teacher)
        if self.has_levels:
            self._check_levels(shapes[0], self.student_layers, "student")
            self._check_levels(shapes[1], self.teacher_layers, "teacher")
        self.check_models(student, teacher)
        self._data_formats = (
            self._data_formats_of(student, self.student_names, "student"),
            self._data_formats_of(teacher, self.teacher_names, "teacher"),
        )
        if self._built_on != shapes:
            self.build_layers(*shapes)
            self._built_on = shapes

    def check_models(self, student: Shapes, teacher: Shapes) -> None:
        """Looks at the models themselves, for losses that use layers of theirs."""

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes layers of the loss, with `dtype="float32"`.

        Args:
            student: Shape of each of the student's layers, `(None, ..., C)`, channels last.
            teacher: Shape of each of the teacher's layers.
        """

    def adapt(
        self, student: list[FeatureMap], teacher: list[FeatureMap], training: bool
    ) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Returns what is compared; for losses with layers of their own, or dependent pairs.

        Args:
            student: What the student's layers say.
            teacher: What the teacher's layers say, without gradient.
            training: Whether this is a training step.
        """
        if not self.pairs_positions:
            return student, teacher
        pairs = [alike(one, other) for one, other in zip(student, teacher, strict=True)]
        return [one for one, _ in pairs], [other for _, other in pairs]

    def compare(self, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of one pair of layers.

        Args:
            student: What the student's layer says.
            teacher: What the teacher's layer says, without gradient.

        Returns:
            float32 tensor, one value per sample, `(B,)`, or per position, `(B, ...)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `compare`.")

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of one pair of layers, for losses that have layers for each pair.

        Args:
            index: Its place among the pairs.
            student: As for `compare`.
            teacher: As for `compare`.

        Returns:
            As `compare`.
        """
        return self.compare(student, teacher)

    def weight_of_pair(self, index: int) -> float:
        """Returns the weight of a pair of layers in the sum."""
        return 1.0

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the loss of one batch under its name."""
        student, teacher = self.adapt(*self.shown(lesson), lesson.training)
        total: Any = 0.0
        for index, (one, other) in enumerate(zip(student, teacher, strict=True)):
            values = self.compare_pair(index, one, other)
            weight = self.weight_of_pair(index)
            total += weight * self.reduced(values, one.mask, lesson.sample_weight)
        return {self.name: total}

    def __call__(
        self,
        student_features: Any,
        teacher_features: Any,
        *,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
        ids: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Computes the loss of what the layers say, without a distiller.

        Args:
            student_features: Tensor of the student's layer, or one per layer.
            teacher_features: Tensor of the teacher's layer, or one per layer.
            sample_weight: Weight of each sample, `(B,)`, or position.
            mask: Bool tensor of shape `(B, ...)`, True for valid positions. Defaults to the Keras
                mask that travels with the student's, if any.
            ids: Numbers of the samples, `(B,)`, for losses that need them.
            training: Whether layers of the loss are to learn from the batch.

        Returns:
            float32 scalar; one value per sample or position with `reduction="none"`.

        Raises:
            ValueError: If there are not as many as layers, or shapes do not fit.
        """
        student = self._outputs(student_features, self.student_names, "student_features")
        teacher = self._outputs(teacher_features, self.teacher_names, "teacher_features")
        if mask is not None:
            student = student._replace(feature_masks={}, mask=mask)
        shapes = [
            Shapes(features={name: (None, *one.shape[1:]) for name, one in side.features.items()})
            for side in (student, teacher)
        ]
        if self._built_on is None:
            self.build(*shapes)
        lesson = Lesson(student, teacher, sample_weight=sample_weight, ids=ids, training=training)
        return self.parts(lesson)[self.name]

    def _outputs(self, given: Any, names: list[str], argument: str) -> Outputs:
        values = list(given) if isinstance(given, list | tuple) else [given]
        if len(values) != len(names):
            raise ValueError(
                f"`{argument}` must hold one tensor for each of {names}. Received: {len(values)}."
            )
        tensors = [ops.convert_to_tensor(value) for value in values]
        for name, value in zip(names, values, strict=True):
            if value is not values[names.index(name)]:
                raise ValueError(
                    f"`{argument}` must hold one tensor for each layer. Received: different ones "
                    f"for {name!r}, which stands twice among {names}."
                )
        masks = {name: get_keras_mask(value) for name, value in zip(names, values, strict=True)}
        return Outputs(
            None,
            features=dict(zip(names, tensors, strict=True)),
            feature_masks={name: mask for name, mask in masks.items() if mask is not None},
        )

    def shapes_of(self, shapes: Shapes, names: list[str], role: str) -> list[Shape]:
        """Returns the shapes of layers, channels last, or raises if they are not known.

        Args:
            shapes: What is known of a model.
            names: Names of its layers.
            role: `"teacher"` or `"student"`, for messages.
        """
        missing = [name for name in names if name not in shapes.features]
        if missing:
            remedy = (
                "Build it on the shape of its input first: model.build((None, ...))."
                if shapes.model is not None
                else "Expected: the model itself. A cache of its logits has no inner layers."
            )
            raise ValueError(
                f"{type(self).__name__} compares inner layers, and the {role} does not show the "
                f"shapes of its own. Received: {role}_layers={missing}. {remedy}"
            )
        formats = self._data_formats_of(shapes, names, role)
        return [channels_last_shape(shapes.features[name], formats[name]) for name in names]

    def _data_formats_of(self, shapes: Shapes, names: list[str], role: str) -> dict[str, str]:
        user = f"{type(self).__name__} of the {role}"
        return {name: data_format_of(shapes, name, self.data_format, user) for name in names}

    def _check_pair(self, index: int, student: Shape, teacher: Shape) -> None:
        names = self.student_names[index], self.teacher_names[index]
        received = (
            f"Received: the student's '{names[0]}' of shape {student} and the teacher's "
            f"'{names[1]}' of shape {teacher}, channels last."
        )
        for shape in (student, teacher):
            if len(shape) not in self.ranks:
                expected = ", ".join(_RANKS[rank] for rank in self.ranks)
                raise ValueError(
                    f"{type(self).__name__} is not defined for such layers. {received} Expected: "
                    f"{expected}. `keras_ats.features.layers(model)` lists what there is."
                )
            if shape[-1] is None:
                raise ValueError(
                    f"{type(self).__name__} must know how many channels there are. {received} "
                    "Is `data_format` right?"
                )
        if self.same_ranks and len(student) != len(teacher):
            raise ValueError(
                f"{type(self).__name__} needs layers of as many axes. {received} Expected: two "
                "maps, two sequences, or two vectors."
            )
        if self.same_channels and student[-1] != teacher[-1]:
            raise ValueError(
                f"{type(self).__name__} needs layers of as many channels. {received} "
                "Expected: layers of one width, or a method that has a projector."
            )
        if self.same_sizes and not shapes_fit(student[1:-1], teacher[1:-1]):
            raise ValueError(
                f"{type(self).__name__} compares positions one by one. {received} Expected: layers "
                f"of the same sizes.{self.remedy_of_sizes}"
            )

    def _check_levels(self, shapes: list[Shape], layers: Layers, role: str) -> None:
        """Raises if a layer is larger than the one before it; a vector is as small as can be."""
        for before, after in itertools.pairwise(shapes):
            sizes = zip(before[1:-1] or (1,) * len(after[1:-1]), after[1:-1], strict=False)
            if any(a is not None and b is not None and a < b for a, b in sizes):
                raise ValueError(
                    f"{type(self).__name__} needs layers from shallow to deep. Received: "
                    f"{role}_layers={layers!r} of shapes {shapes}, channels last. Turn both lists "
                    "around."
                )

    @property
    def remedy_of_sizes(self) -> str:
        """What else may be done about maps of different sizes, for messages."""
        return ""

    def check_batch(self, student: FeatureMap, teacher: FeatureMap) -> None:
        """Raises if the two are not of as many samples."""
        counts = student.values.shape[0], teacher.values.shape[0]
        if None not in counts and counts[0] != counts[1]:
            raise ValueError(
                f"{type(self).__name__} needs what both models say of the same samples. Received: "
                f"{counts[0]} samples of the student and {counts[1]} of the teacher."
            )

    def shown(self, lesson: Lesson) -> tuple[list[FeatureMap], list[FeatureMap]]:
        """Returns what student's and teacher's layers say, cleared where they are masked.

        A layer without a mask of its own has that of its model's logits, or its partner's, where
        these have its positions. The teacher's are without gradient.

        Args:
            lesson: The lesson of a batch.
        """
        sides: tuple[list[FeatureMap], list[FeatureMap]] = ([], [])
        for names in zip(self.student_names, self.teacher_names, strict=True):
            values, masks = [], []
            for outputs, name, formats in zip(
                (lesson.student, lesson.teacher), names, self._data_formats, strict=True
            ):
                values.append(channels_last(outputs.features[name], formats[name]))
                masks.append([outputs.feature_masks.get(name), outputs.mask])
            student = masked(values[0], masks[0] + masks[1])
            teacher = masked(ops.stop_gradient(values[1]), masks[1] + masks[0])
            self.check_batch(student, teacher)
            sides[0].append(student)
            sides[1].append(teacher)
        return sides

    def reduced(self, values: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> Tensor:
        """Weighs and averages values of samples or of their positions.

        Args:
            values: Tensor of shape `(B,)` or `(B, ...)`.
            mask: Bool tensor of the positions, `(B, ...)`, or None.
            sample_weight: As given to `fit`; of other positions than these, a sample's mean.
        """
        rank = len(values.shape)
        if mask is not None and rank == 1:
            mask = ops.any(mask, axis=tuple(range(1, len(mask.shape))))
        if sample_weight is not None:
            weights = ops.cast(sample_weight, "float32")
            own = tuple(weights.shape)
            if len(own) > 1 and not (
                len(own) == rank and shapes_fit(own[1:], tuple(values.shape)[1:])
            ):
                # Weights of other positions than these: a sample weighs their mean.
                weights = ops.mean(weights, axis=tuple(range(1, len(own))))
            sample_weight = weights
        return self.reduce(values, sample_weight, mask)


_RANKS = {2: "vectors (B, C)", 3: "sequences (B, T, C)", 4: "maps (B, H, W, C)", 5: "volumes"}


def as_layers(value: Any, argument: str, takes_lists: bool = True) -> Layers:
    """Returns a name or, where these are taken, a list of names; raises if `value` is neither."""
    if not takes_lists:
        return checks.as_string(value, argument, "the name of one layer")
    expected = "the name of a layer, or a list of names"
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError(f"`{argument}` must be {expected}. Received: {argument}={value!r}.")
        return [checks.as_string(one, argument, expected) for one in value]
    return checks.as_string(value, argument, expected)


def names_of(layers: Layers) -> list[str]:
    """Returns the names, one or several, as a list."""
    return [layers] if isinstance(layers, str) else list(layers)
