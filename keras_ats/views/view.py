"""A model as the record wants it: logits by output name, inner layers, masks."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_ats._keras import (
    ExchangingModel,
    compute_output_spec,
    get_keras_mask,
    mark_as_called,
)
from keras_ats.checks import as_string, one_of
from keras_ats.record import Head, Outputs, Shapes, pick
from keras_ats.types import Nested
from keras_ats.views.activations import Ending, family_of
from keras_ats.views.classifier import find_classifier
from keras_ats.views.data_formats import data_formats
from keras_ats.views.features import at_layers
from keras_ats.views.graph import graph_inputs, graph_outputs, has_graph, outputs_by_name
from keras_ats.views.keras_model import as_keras_model
from keras_ats.views.read import FromLogits, argument_name, read_outputs
from keras_ats.views.readings import Inverse, Probabilities, Reading
from keras_ats.views.trial import trial_outputs

_LOSSES_FOR = {
    "softmax": "Expected: a loss over classes, such as AsymmetricTemperatureKD(4, 2).",
    "sigmoid": "Expected: a loss on yes-or-no answers, such as BernoulliKD(4, 2).",
}


class View:
    """Runs one model and says what it said; shares all weights with it and leaves it as it is.

    Args:
        source: A built Keras model.
        from_logits: True if it returns logits, False if it returns probabilities, None to find
            out; or a dict of these by output name.
        role: `"teacher"`, `"student"` or `"model"`, for messages.
        features: Names of inner layers to read too.
        outputs: Names of the outputs whose logits are needed; None for at least one of them.

    Raises:
        ValueError: If the ending of an output that is needed is not known, or a layer cannot be
            read.

    Example:

    ```python
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, "softmax", name="classes")])
    view = keras_ats.views.View(model, None, "teacher", features=("classes",))
    view.endings  # {"sequential": "softmax"}
    outputs = view(np.random.rand(4, 8))
    outputs.logits, outputs.features["classes"], view.predictions(outputs)
    ```
    """

    def __init__(
        self,
        source: keras.Model,
        from_logits: FromLogits,
        role: str,
        features: tuple[str, ...] = (),
        outputs: Iterable[str] | None = None,
    ) -> None:
        self.source = as_keras_model(source, "`source`", "a built model")
        self.role = one_of(role, "role", ("teacher", "student", "model"))
        features = _as_names(features, "features")
        outputs = None if outputs is None else _as_names(outputs, "outputs")
        self._readings = read_outputs(source, from_logits, role)
        self.output_names = list(self._readings)
        problems = [reading.problem for reading in self._readings.values()]
        if outputs is not None:
            self.require(outputs)
        elif all(problems):
            raise ValueError(problems[0])
        self._read(features)

    @property
    def endings(self) -> dict[str, Ending]:
        """What the model returns, by output name.

        `"logits"` as such, or what is made of them: `"softmax"`, `"log_softmax"`, `"sigmoid"`,
        `"log_sigmoid"`, or `"probabilities"` of a kind that `with_probabilities_of` has not told
        yet. `"unknown"` has no logits.
        """
        return {name: reading.ending for name, reading in self._readings.items()}

    @property
    def families(self) -> dict[str, Inverse | None]:
        """Whether classes exclude each other, by output name: `"softmax"`, `"sigmoid"` or None.

        None where the model returns logits or is not known: then the loss must tell.
        """
        return {name: family_of(ending) for name, ending in self.endings.items()}

    def require(self, names: Iterable[str]) -> None:
        """Raises if the logits of one of these outputs cannot be read.

        An output that nobody asks for may end as it likes.
        """
        for name in names:
            if name not in self._readings:
                raise ValueError(
                    f"The {self.role} '{self.source.name}' has no output of this name. Received: "
                    f"{name!r}. Expected: some of {self.output_names}."
                )
            if self._readings[name].problem:
                raise ValueError(self._readings[name].problem)

    def with_features(self, features: tuple[str, ...]) -> "View":
        """Returns a view of the same model that reads these inner layers."""
        view = self._copy()
        view._read(features)
        return view

    def prepared(self, features: tuple[str, ...], heads: Iterable[Head]) -> "View":
        """Returns a view that shows what losses need.

        Args:
            features: Names of inner layers.
            heads: Outputs whose logits are read, and the kind of loss that reads them.

        Raises:
            ValueError: If an output cannot be read, or ends in something that the loss is not for.
        """
        told: dict[str, Inverse] = {}
        for head in heads:
            name = head.output if len(self.output_names) > 1 else self.output_names[0]
            self.require([name] if name is not None else self.output_names)
            family = self.families.get(str(name))
            if head.family is None:
                continue
            if family not in (None, head.family):
                raise ValueError(
                    f"The {self.role} '{self.source.name}' ends in {self.endings[str(name)]}, and "
                    f"the distillation loss is for {head.family} heads. {_LOSSES_FOR[str(family)]}"
                )
            told[str(name)] = head.family
        return self.with_features(features).with_probabilities_of(told)

    def with_probabilities_of(self, inverse: Inverse | Mapping[str, Inverse]) -> "View":
        """Returns a view that takes probabilities back through this activation.

        It matters only where a model is said to return probabilities and its graph does not tell
        which. One unit is always taken as a sigmoid's.

        Args:
            inverse: `"softmax"`, as long as nothing is said, or `"sigmoid"`; or by output name.
        """
        view = self._copy()
        view._readings = dict(self._readings)
        for name, reading in self._readings.items():
            of = inverse.get(name) if isinstance(inverse, Mapping) else inverse
            if isinstance(reading, Probabilities) and of is not None:
                kind: Inverse = "sigmoid" if self._is_one_unit(name) else of
                view._readings[name] = dataclasses.replace(reading, ending=kind, inverse=kind)
        return view

    def __call__(self, inputs: Nested, training: bool | None = None) -> Outputs:
        """Returns what the model says of a batch."""
        said = self.model(inputs, training=training)
        mark_as_called(self.source)
        raw, features = self._taken_apart(said)
        named = self._named(raw)
        logits = {
            name: self._reading(name).logits(value)
            for name, value in named.items()
            if not self._reading(name).problem
        }
        kept = {name: value for name, value in named.items() if not self._reading(name).follows}
        masks = {name: get_keras_mask(value) for name, value in features.items()}
        return Outputs(
            self._one_or_all(logits),
            features,
            self._one_or_all({name: get_keras_mask(named[name]) for name in logits}),
            # What code of the user's returns has a structure that only it knows.
            predictions=(kept or None) if has_graph(self.source) else said,
            feature_masks={name: mask for name, mask in masks.items() if mask is not None},
        )

    def predictions(self, outputs: Outputs) -> Nested:
        """Returns what the model itself returns for the batch that `outputs` speaks of."""
        if not has_graph(self.source):
            return outputs.predictions
        kept = outputs.predictions or {}
        return self.structured(
            {
                name: kept[name] if name in kept else reading.prediction(self._of(outputs, name))
                for name, reading in self._readings.items()
            }
        )

    def scored(self, predictions: Nested, labels: Nested) -> Nested:
        """Returns what losses and metrics are shown: predictions, without inner layers among them.

        Args:
            predictions: What the model returned.
            labels: Labels as given; where they are a dict, so are the predictions.
        """
        is_to_be_scored = not has_graph(self.source) and not isinstance(labels, dict)
        if is_to_be_scored and self._gives_layers(predictions):
            return predictions["logits"]
        return predictions

    def outputs_of_logits(self, logits: Nested) -> Outputs:
        """Returns the outputs of a model whose logits are all that it returns.

        Raises:
            ValueError: If it returns anything else, or inner layers are read too.
        """
        if self.features or set(self.endings.values()) != {"logits"}:
            raise ValueError(
                "`compute_loss` needs what the distiller returns within a training step. Received: "
                "predictions. For a loop of your own call train_on_batch or test_on_batch."
            )
        named = self._named(logits)
        masks = {name: get_keras_mask(value) for name, value in named.items()}
        return Outputs(self._one_or_all(named), mask=self._one_or_all(masks))

    def by_name(self, values: Nested) -> Any:
        """Values in the structure of the outputs: those of the only one, or a dict by name.

        Labels and weights may also be one tensor for all outputs, or None.
        """
        if len(self.output_names) == 1:
            one = isinstance(values, list | tuple | dict) and len(values) == 1
            return keras.tree.flatten(values)[0] if one else values
        if isinstance(values, list | tuple):
            return dict(zip(self.output_names, values, strict=True))
        return values

    def labels(self, given: Nested) -> Nested:
        """Labels as Keras wants them: None for each output that a dict has no labels of."""
        several = isinstance(given, dict) and len(self.output_names) > 1
        return self.structured(given) if several else given

    def structured(self, values: Any) -> Nested:
        """What `by_name` was given: values in the structure that the model returns."""
        if not has_graph(self.source):
            return values
        structure = graph_outputs(self.source)
        leaves = [pick(values, name) for name in self.output_names]
        if isinstance(structure, dict):
            return dict(zip(self.output_names, leaves, strict=True))
        # Keras takes a list of one output apart.
        if len(leaves) == 1:
            return leaves[0]
        return type(structure)(leaves)

    def as_logits(self, predictions: Nested) -> Nested:
        """What the model returns, in the structure that `structured` gives its logits."""
        return self.structured(self._one_or_all(self._named(predictions)))

    @property
    def shapes(self) -> Shapes:
        """Shapes of logits and features, as far as the graph or a trial run on shapes tells."""
        if not has_graph(self.source):
            return self._shapes_of_trial()
        outputs = graph_outputs(self.model)
        if isinstance(self.model, ExchangingModel):
            outputs = compute_output_spec(self.model.call, graph_inputs(self.model))
        raw, features = self._taken_apart(outputs)
        logits = {
            name: tuple(value.shape)
            for name, value in self._named(raw).items()
            if not self._readings[name].problem
        }
        return Shapes(
            self._one_or_all(logits),
            {name: tuple(value.shape) for name, value in features.items()},
            self.source,
            find_classifier(self.source),
            self._data_formats_of(features),
        )

    def _shapes_of_trial(self) -> Shapes:
        """Shapes of what a model without a graph returns; none where it was not built on one."""
        said = trial_outputs(self.source) if self.features else None
        if said is None:
            return Shapes(model=self.source)
        raw, features = self._taken_apart(said)
        return Shapes(
            tuple(raw.shape),
            {name: tuple(value.shape) for name, value in features.items()},
            self.source,
            data_formats=self._data_formats_of(features),
        )

    def _data_formats_of(self, features: Mapping[str, Any]) -> dict[str, frozenset[str]]:
        return {
            name: data_formats(self.source, len(value.shape)) for name, value in features.items()
        }

    def _taken_apart(self, said: Any) -> tuple[Any, dict[str, Any]]:
        """What the model gave, as its outputs and what its inner layers say."""
        if has_graph(self.source):
            return (said["logits"], said["features"]) if self.features else (said, {})
        if not self._gives_layers(said):
            if self.features:
                raise ValueError(
                    f"The {self.role} '{self.source.name}' returned no dict of inner layers. "
                    f"Received: {type(said).__name__}. Expected: a dict with 'logits' and "
                    f"{list(self.features)}."
                )
            return said, {}
        missing = [name for name in self.features if name not in said]
        if missing:
            close = difflib.get_close_matches(missing[0], said, n=3, cutoff=0.0)
            raise ValueError(
                f"The {self.role} '{self.source.name}' has no layer of this name. Received: "
                f"{missing[0]!r}. The nearest that it returns are {close}."
            )
        return said["logits"], {name: said[name] for name in self.features}

    def _gives_layers(self, said: Any) -> bool:
        """Whether a model without a graph returns inner layers beside its logits."""
        return isinstance(said, dict) and "logits" in said and len(self.output_names) == 1

    def _read(self, features: tuple[str, ...]) -> None:
        self.features = features
        self.model = self._model_that_reads(features)

    def _model_that_reads(self, features: tuple[str, ...]) -> keras.Model:
        """The model that is run: the source itself, where it gives all that is to be read."""
        if not has_graph(self.source):
            if features and trial_outputs(self.source) is None:
                at_layers(self.source, None, features, self.role)
            return self.source
        outputs = outputs_by_name(self.source, self.output_names)
        given = {name: self._readings[name].given(output) for name, output in outputs.items()}
        if features:
            return at_layers(self.source, self.structured(given), features, self.role)
        if all(given[name] is output for name, output in outputs.items()):
            return self.source
        return keras.Model(
            graph_inputs(self.source), self.structured(given), name=f"{self.source.name}_logits"
        )

    def _named(self, said: Nested) -> dict[str, Any]:
        """What the model gave, by output name."""
        if not has_graph(self.source) and self._gives_layers(said):
            return {self.output_names[0]: said["logits"]}
        if isinstance(said, dict):
            return said
        values = said if isinstance(said, list | tuple) else [said]
        if len(values) != len(self.output_names):
            raise ValueError(
                f"The {self.role} '{self.source.name}' returned {len(values)} outputs. Expected: "
                f"{len(self.output_names)}, {self.output_names}. Name them in their order: "
                f"{argument_name(self.role)}={{'first': True, 'second': True}}."
            )
        return dict(zip(self.output_names, values, strict=True))

    def _one_or_all(self, named: dict[str, Any]) -> Any:
        """Values by name as the record has them: without a name where there is one output."""
        if len(self.output_names) > 1 or len(named) > 1:
            return named
        return next(iter(named.values()), None)

    def _of(self, outputs: Outputs, name: str) -> Any:
        one = len(self.output_names) == 1
        return outputs.logits if one else outputs.logits[name]

    def _reading(self, name: str) -> Reading:
        # A subclassed model may return more names than anyone knew; all are read alike.
        return self._readings.get(name) or self._readings[self.output_names[0]]

    def _is_one_unit(self, name: str) -> bool:
        if not has_graph(self.source):
            return False
        return outputs_by_name(self.source, self.output_names)[name].shape[-1] == 1

    def _copy(self) -> "View":
        view = object.__new__(View)
        vars(view).update(vars(self))
        return view


def _as_names(names: Any, argument: str) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(
            f"`{argument}` must be a list of names. Received: {argument}={names!r} of type "
            f"{type(names).__name__}."
        )
    return tuple(as_string(name, argument, "a list of names") for name in names)
