"""The record of a step: what each model said, what the labels say, and who needs to see what.

It is made once in a step and handed to all who have something to say: losses on logits, losses on
inner layers, metrics. Outputs of a model that has several go by their names throughout.
"""

from typing import Any, Literal, NamedTuple

from keras_ats.types import Nested, Shape, Tensor


class Outputs(NamedTuple):
    """What one model says of a batch.

    Attributes:
        logits: Tensor of shape `(..., C)`; for a model with several outputs a dict by name. A
            teacher's may be `TopKLogits`.
        features: What inner layers say, by layer name; only those that a loss has asked for.
        mask: Bool tensor of shape `(...,)`, True for valid positions, or None; by name as `logits`.
        predictions: What the model itself returned, where that does not follow from its logits.
        feature_masks: Bool tensors of shape `(B, ...)` of those features that carry a Keras mask.
    """

    logits: Nested
    # Shared between records, and never written to.
    features: dict[str, Tensor] = {}  # noqa: RUF012
    mask: Nested = None
    predictions: Nested = None
    feature_masks: dict[str, Tensor] = {}  # noqa: RUF012


class TopKLogits(NamedTuple):
    """What is known of a row of many logits: the largest, and what the others come to.

    Stands in the place of `Outputs.logits` where a cache was made with `top_k`.

    Attributes:
        values: The largest logits and the labels', falling, float32, shape `(..., k)`.
        ids: Their classes, int32, shape `(..., k)`.
        maximum: The largest logit, shape `(...,)`, which the others below are relative to.
        tail: Log of the sum of exponentials of all others at the inverse temperatures
            `ops.tail.TAIL_NODES`, float32, shape `(..., 8)`.
        count: How many others there are, shape `(...,)`.
        mean: Their mean, shape `(...,)`.
        classes: How many classes there are in all.
    """

    values: Tensor
    ids: Tensor
    maximum: Tensor
    tail: Tensor
    count: Tensor
    mean: Tensor
    classes: int


class Lesson(NamedTuple):
    """What a step knows.

    Attributes:
        student: What the student says.
        teacher: What the teacher says, without gradient.
        labels: Labels as the caller gave them, or None; by output name where there are several.
        sample_weight: One weight for each sample or position, or None; likewise.
        inputs: The batch of inputs that both were shown their parts of, augmented where a distiller
            has an `augmentation`; None where nobody has said.
        ids: What tells the samples of the data apart, integers of shape `(B,)`, where a loss has
            asked for them; else None.
        training: Whether this is a training step; else nothing may be learned from it, statistics
            included.
    """

    student: Outputs
    teacher: Outputs
    labels: Nested = None
    sample_weight: Nested = None
    inputs: Nested = None
    ids: Tensor | None = None
    training: bool = True

    def of_output(self, name: str) -> "Lesson":
        """Returns the lesson of one output, with all features."""
        return self._replace(
            student=_outputs_of(self.student, name),
            teacher=_outputs_of(self.teacher, name),
            labels=pick(self.labels, name),
            sample_weight=pick(self.sample_weight, name),
        )


class Head(NamedTuple):
    """An output whose logits a loss reads.

    Attributes:
        output: Its name; None for the only one.
        family: Whether its classes exclude each other, `"softmax"`, or are questions of their own,
            `"sigmoid"`; None where the loss does not care.
        top_k: Whether the largest of the teacher's logits and the sum of the others will do.
    """

    output: str | None = None
    family: Literal["softmax", "sigmoid"] | None = None
    top_k: bool = False


class Needs(NamedTuple):
    """What a loss must be shown; known before the first batch.

    Attributes:
        labels: Whether it cannot do without labels.
        student_features: Names of the student's layers that it reads.
        teacher_features: Names of the teacher's.
        heads: Outputs whose logits it reads.
        ids: Key of the inputs, a dict then, under which the ids of the samples come; None for a
            loss that needs none. Neither model is shown them.
    """

    labels: bool = False
    student_features: tuple[str, ...] = ()
    teacher_features: tuple[str, ...] = ()
    heads: tuple[Head, ...] = ()
    ids: str | None = None

    def __or__(self, other: "Needs") -> "Needs":
        """Returns the needs of both, no layer twice."""
        if None not in (self.ids, other.ids) and self.ids != other.ids:
            raise ValueError(
                "Losses ask for the samples' ids under different keys of the inputs. Received: "
                f"{self.ids!r} and {other.ids!r}. Expected: one key."
            )
        return Needs(
            self.labels or other.labels,
            tuple(dict.fromkeys(self.student_features + other.student_features)),
            tuple(dict.fromkeys(self.teacher_features + other.teacher_features)),
            tuple(dict.fromkeys(self.heads + other.heads)),
            self.ids if self.ids is not None else other.ids,
        )


class Classifier(NamedTuple):
    """The end of a model that is a linear layer.

    Attributes:
        layer: The `Dense` layer that makes the logits.
        reads: Name of the layer that it reads, or reads the mean over positions of; None if that
            cannot be told.
    """

    layer: Any
    reads: str | None = None


class Shapes(NamedTuple):
    """The shapes of `Outputs`, known before the first batch; None where they are not.

    Attributes:
        logits: Shape `(..., C)`; by output name where there are several; None if unknown.
        features: Shape by layer name.
        model: The model itself, for losses that use a layer of it; None where there is none, as
            with a cache.
        classifier: The `Dense` layer at its end; None where another layer makes the logits.
        data_formats: Where each feature's layers have their channels, some of `"channels_last"` and
            `"channels_first"`; by layer name, empty where no layer says it.
    """

    logits: Any = None
    features: dict[str, Shape] = {}  # noqa: RUF012
    model: Any = None
    classifier: Classifier | None = None
    data_formats: dict[str, frozenset[str]] = {}  # noqa: RUF012


def pick(values: Nested, name: str) -> Any:
    """Returns the entry of an output where values go by name; else what serves all of them."""
    return values.get(name) if isinstance(values, dict) else values


def _outputs_of(outputs: Outputs, name: str) -> Outputs:
    return outputs._replace(logits=pick(outputs.logits, name), mask=pick(outputs.mask, name))
