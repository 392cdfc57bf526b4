"""A model as the record wants it: logits by output name, inner layers, masks."""

from typing import Any

import keras

from keras_ats._keras import get_keras_mask
from keras_ats.record import Outputs, Shapes, pick
from keras_ats.types import Nested, Shape
from keras_ats.views.features import at_layers
from keras_ats.views.graph import graph_outputs, has_graph, output_names
from keras_ats.views.logits_view import logits_view


class View:
    """Runs one model and says what it said; shares all weights with it and leaves it as it is.

    Args:
        source: A built Keras model.
        from_logits: True if it returns logits, False if it returns probabilities, None to find
            out.
        role: `"teacher"` or `"student"`, for messages.
        features: Names of inner layers to read too.

    Raises:
        ValueError: If the model's ending is not known, or a layer cannot be read.
    """

    def __init__(
        self,
        source: keras.Model,
        from_logits: bool | None,
        role: str,
        features: tuple[str, ...] = (),
    ) -> None:
        self.source = source
        self.role = role
        self.output_names = output_names(source)
        self._logits_view = logits_view(source, from_logits, role)
        self._read(features)

    def with_features(self, features: tuple[str, ...]) -> "View":
        """Returns a view of the same model that reads these inner layers."""
        view = object.__new__(View)
        view.__dict__.update(self.__dict__)
        view._read(features)
        return view

    def __call__(self, inputs: Nested, training: bool | None = None) -> Outputs:
        """Returns what the model says of a batch."""
        said = self.model(inputs, training=training)
        raw, features = (said["logits"], said["features"]) if self.features else (said, {})
        to_logits = self._logits_view.to_logits
        return Outputs(
            self.by_name(to_logits(raw)),
            features,
            self.by_name(keras.tree.map_structure(get_keras_mask, raw)),
            predictions=raw if self._logits_view.from_probabilities else None,
        )

    def predictions(self, outputs: Outputs) -> Nested:
        """Returns what the model itself returns for the batch that `outputs` speaks of."""
        if outputs.predictions is not None:
            return outputs.predictions
        return self._logits_view.to_outputs(self.structured(outputs.logits))

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

    def structured(self, values: Any) -> Nested:
        """What `by_name` was given: values in the structure that the model returns."""
        structure = graph_outputs(self.source) if has_graph(self.source) else None
        if isinstance(structure, list | tuple):
            leaves = [pick(values, name) for name in self.output_names]
            return type(structure)(leaves)
        if isinstance(structure, dict) and not isinstance(values, dict):
            return {self.output_names[0]: values}
        return values

    @property
    def shapes(self) -> Shapes:
        """Shapes of logits and features, as far as the graph tells."""
        if not has_graph(self.model):
            return Shapes()
        outputs = graph_outputs(self.model)
        raw, features = (outputs["logits"], outputs["features"]) if self.features else (outputs, {})
        logits = self.by_name(raw)
        return Shapes(
            _shapes_of(logits) if isinstance(logits, dict) else tuple(logits.shape),
            _shapes_of(features),
        )

    def _read(self, features: tuple[str, ...]) -> None:
        self.features = features
        logits_model = self._logits_view.model
        self.model = (
            at_layers(self.source, logits_model, features, self.role) if features else logits_model
        )


def _shapes_of(outputs: dict[str, keras.KerasTensor]) -> dict[str, Shape]:
    return {name: tuple(output.shape) for name, output in outputs.items()}
