"""What is minimised: the losses, their weights, and what is logged of them."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ats import checks
from keras_ats._keras import unscale_loss_for_distribution
from keras_ats.configurable import Configurable, check_of, serialize
from keras_ats.distiller.kd_losses import as_losses, as_weights, by_key, weight_check
from keras_ats.distiller.pair import check_class_counts
from keras_ats.losses.distillation_loss import DistillationLoss
from keras_ats.losses.ignored_labels import without_ignored
from keras_ats.losses.kd_loss import KDLoss
from keras_ats.record import Lesson, Needs, Shapes, pick
from keras_ats.types import Config, Tensor


@dataclass(frozen=True)
class Term(Configurable):
    """One distillation loss within the sum.

    Attributes:
        loss: The loss.
        share: Its weight relative to the other terms.
        output: Name of the output that it is for; None for models with one output.
        trackers: Mean of each part over the epoch, by the name that the loss gives it.
    """

    loss: DistillationLoss
    share: keras.Variable
    output: str | None
    trackers: dict[str, keras.metrics.Mean]


class Objective(Configurable):
    r"""The objective: `student_weight * student_loss + kd_weight * kd_loss + regularisation`.

    `kd_loss` is one distillation loss, or the mean of several weighted by their shares, each
    logged by its name. Holds the weights as variables, and the trackers of what is logged.

    Args:
        kd_loss: A loss, its name or config; a list of them; or a dict from output name to loss.
        kd_weight: Weight of `kd_loss`. For several losses a list or dict of weights, or their sum.
        student_weight: Weight of the supervised loss; None means `1 - kd_weight`.

    Raises:
        TypeError: If `kd_loss` is not a distillation loss, or a weight is not a number.
        ValueError: If `kd_loss` is missing or a weight is out of its range.
    """

    def __init__(self, kd_loss: Any, kd_weight: Any, student_weight: float | None) -> None:
        self.kd_loss = as_losses(kd_loss)
        shares, total = as_weights(kd_weight, by_key(self.kd_loss), student_weight is None)
        self.kd_weight = self.add_variable(total, "kd_weight", weight_check(student_weight is None))
        self.given_student_weight = (
            None
            if student_weight is None
            else self.add_variable(student_weight, "student_weight", checks.non_negative_number)
        )
        # As given; what is read from a variable would have to come from its device.
        self.weighs_teacher = total > 0
        self.weighs_labels = student_weight is None or student_weight > 0
        self.terms = self._make_terms(shares)
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.kd_loss_tracker = keras.metrics.Mean(name="kd_loss")

    @property
    def student_weight(self) -> Tensor:
        """Present weight of the supervised loss."""
        given = self.given_student_weight
        return 1.0 - self.kd_weight if given is None else given

    @property
    def needs(self) -> Needs:
        """What all losses together must be shown."""
        needs = Needs()
        for term in self.terms:
            of_term = term.loss.needs
            heads = tuple(head._replace(output=term.output) for head in of_term.heads)
            needs |= of_term._replace(heads=heads)
        return needs

    @property
    def part_trackers(self) -> list[keras.metrics.Mean]:
        """Trackers of the single parts; none where `kd_loss` is all there is."""
        return [tracker for term in self.terms for tracker in term.trackers.values()]

    @property
    def losses_by_output(self) -> dict[str | None, list[DistillationLoss]]:
        """The losses by the output that they are for; None for the only one."""
        losses: dict[str | None, list[DistillationLoss]] = {}
        for term in self.terms:
            losses.setdefault(term.output, []).append(term.loss)
        return losses

    def check_outputs(self, student: Sequence[str], teacher: Sequence[str]) -> None:
        """Raises if the outputs that losses are for are missing or not chosen.

        Args:
            student: Names of the student's outputs.
            teacher: Names of the teacher's.
        """
        for term in self.terms:
            _check_output(term, student, "student")
            _check_output(term, teacher, "teacher")

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Lets each loss make its layers.

        Args:
            student: Shapes of what the student says.
            teacher: Shapes of what the teacher says.

        Raises:
            ValueError: If class counts differ, or are too few for a loss.
        """
        for term in self.terms:
            shapes = [
                one if term.output is None else one._replace(logits=pick(one.logits, term.output))
                for one in (student, teacher)
            ]
            check_class_counts(*(one.logits for one in shapes))
            for logits in (one.logits for one in shapes if isinstance(one.logits, tuple)):
                if isinstance(term.loss, KDLoss):
                    term.loss.check_classes(logits[-1])
            term.loss.build(*shapes)

    @contextlib.contextmanager
    def unchanged_on_failure(self) -> Iterator[None]:
        """Gives losses their former layers back if the block raises: they may be in use already."""
        before = [dict(vars(term.loss)) for term in self.terms]
        try:
            yield
        except BaseException:
            for term, attributes in zip(self.terms, before, strict=True):
                vars(term.loss).clear()
                vars(term.loss).update(attributes)
            raise

    def __call__(
        self,
        student_loss: Tensor | None,
        lesson: Lesson,
        regularization: Tensor | None,
        batch_size: Tensor,
        ignored: Any = None,
    ) -> Tensor:
        """Returns the objective of one batch and takes note of its parts.

        Args:
            student_loss: The supervised loss, a scalar; None to learn from the teacher alone.
            lesson: What student and teacher said.
            regularization: Regularisers and added losses, a scalar; None without any.
            batch_size: Number of samples, the weight of the batch in an epoch's mean.
            ignored: A class id that the supervised loss leaves out, or a dict of them by output;
                losses that read labels leave it out too.
        """
        total = self.kd_weight * self._kd_loss(lesson, batch_size, ignored)
        if student_loss is not None:
            total += self.student_weight * student_loss
        return total if regularization is None else total + regularization

    def get_compile_config(self) -> Config:
        """Returns the arguments that make this objective again, with the present weights."""
        weights: Any = serialize(self.kd_weight)
        if isinstance(self.kd_loss, dict | list):
            shares = {key: serialize(term.share) for key, term in self._terms_by_key.items()}
            # A weight of 0, as in the first epoch of a warm-up, would not tell the shares.
            factor = (weights or 1.0) / math.fsum(shares.values())
            shares = {key: factor * share for key, share in shares.items()}
            weights = shares if isinstance(self.kd_loss, dict) else list(shares.values())
        return {
            "kd_loss": serialize(self.kd_loss),
            "kd_weight": weights,
            "student_weight": serialize(self.given_student_weight),
        }

    @property
    def saved_variables(self) -> dict[str, keras.Variable]:
        """All variables by the names they have in files, in which the classes of losses stand."""
        names = {"kd_weight": self.kd_weight}
        if self.given_student_weight is not None:
            names["student_weight"] = self.given_student_weight
        for key, term in self._terms_by_key.items():
            prefix = f"{key}.{type(term.loss).__name__}"
            names[f"{prefix}.share"] = term.share
            for path, variable in term.loss.named_variables.items():
                names[f"{prefix}.{path}"] = variable
        return names

    @property
    def settings(self) -> dict[str, float]:
        """Present values of what training does not learn: weights, temperatures."""
        return {
            name: serialize(variable)
            for name, variable in self.saved_variables.items()
            if not variable.trainable and variable.shape == ()
        }

    def load_variables(self, saved: Mapping[str, Any]) -> None:
        """Takes over what a file says of the objective's variables.

        Args:
            saved: Values by the names of `saved_variables`.

        Raises:
            ValueError: If the file is of an objective with other variables, or has values that
                `compile` would not take.
        """
        own = self.saved_variables
        if set(saved) != set(own):
            missing, strange = sorted(set(own) - set(saved)), sorted(set(saved) - set(own))
            raise ValueError(
                "The file was saved with another `kd_loss`. Only in the file: "
                f"{strange}. Only here: {missing}. Compile with the losses that it was saved with, "
                "or load the student alone: distiller.student.load_weights(...)."
            )
        values = {name: _checked(saved[name], one, name) for name, one in own.items()}
        for name, variable in own.items():
            variable.assign(values[name])

    @property
    def _terms_by_key(self) -> dict[Any, Term]:
        return dict(zip(by_key(self.kd_loss), self.terms, strict=True))

    def _make_terms(self, shares: dict[Any, float]) -> list[Term]:
        """One term for each loss; names of what is logged never twice the same."""
        terms: list[Term] = []
        names: set[str] = set()
        for key, loss in by_key(self.kd_loss).items():
            output = key if isinstance(self.kd_loss, dict) else None
            trackers = {}
            for part in loss.part_names if len(shares) > 1 or len(loss.part_names) > 1 else ():
                name = part if output is None else f"{output}_{part}"
                if output is not None and len(loss.part_names) == 1:
                    name = f"{output}_kd_loss"
                name = f"{name}_{key}" if name in names else name
                names.add(name)
                trackers[part] = keras.metrics.Mean(name=name)
            share = self.add_variable(shares[key], f"weight_{key}", checks.non_negative_number)
            terms.append(Term(loss, share, output, trackers))
        return terms

    def _kd_loss(self, lesson: Lesson, batch_size: Tensor, ignored: Any) -> Tensor:
        total: Any = 0.0
        for term in self.terms:
            shown = lesson if term.output is None else lesson.of_output(term.output)
            left_out = pick(ignored, str(term.output))
            if left_out is not None and _reads_given_labels(term.loss):
                shown = without_ignored(shown, left_out)
            parts = term.loss.parts(shown)
            for name, tracker in term.trackers.items():
                track(tracker, parts[name], batch_size)
            total += term.share * sum(parts.values())
        kd_loss = total / sum(term.share.value for term in self.terms)
        track(self.kd_loss_tracker, kd_loss, batch_size)
        return kd_loss


def _reads_given_labels(loss: DistillationLoss) -> bool:
    return loss.needs.labels and not getattr(loss, "pseudo_labels", False)


def _checked(value: Any, variable: keras.Variable, name: str) -> Any:
    """A value of a file, if it is one that the variable may have."""
    if variable.shape != ():
        return value  # Layers' weights, which Keras compares by their shapes.
    number = np.asarray(value)
    return check_of(variable)(number.item() if number.ndim == 0 else number, name)


def track(tracker: keras.metrics.Mean, value: Tensor, batch_size: Tensor) -> None:
    """Takes a batch's value into an epoch's mean, as one device would see it."""
    tracker.update_state(unscale_loss_for_distribution(value), sample_weight=batch_size)


def _check_output(term: Term, names: Sequence[str], role: str) -> None:
    """Raises if a model does not have the output that a loss is for, or has several."""
    if len(names) == 1:
        return
    if term.output is None:
        raise ValueError(
            f"The {role} has several outputs, {list(names)}; `kd_loss` must say which one it "
            f"is for. Received: kd_loss={type(term.loss).__name__}. Pass a dict such as "
            f"{{'{names[0]}': keras_ats.losses.AsymmetricTemperatureKD(4, 2)}}."
        )
    if term.output not in names:
        raise ValueError(
            f"`kd_loss` names outputs that the {role} does not have. Received: "
            f"{[term.output]}. Expected: some of {list(names)}."
        )
