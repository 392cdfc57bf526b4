"""Where a model's layers have their channels."""

import keras

from keras_ats._keras import all_layers


def data_formats(model: keras.Model, rank: int) -> frozenset[str]:
    """Returns what the layers of a model that take tensors of this rank say of their channels.

    A convolution or a pooling says it, whatever Keras is configured to. Tokens between layers that
    know no channels have none to say.

    Args:
        model: A model, with or without a graph.
        rank: Number of axes, batch and channels included.

    Returns:
        Some of `"channels_last"` and `"channels_first"`; both where layers differ.
    """
    return frozenset(
        layer.data_format for layer in all_layers(model) if _rank_of_images(layer) == rank
    )


def _rank_of_images(layer: keras.layers.Layer) -> int | None:
    """Rank of what a layer takes that has a format of data."""
    spec = getattr(layer, "input_spec", None)
    if not isinstance(getattr(layer, "data_format", None), str) or spec is None:
        return None
    rank = getattr(spec, "ndim", None) or getattr(spec, "min_ndim", None)
    return rank if isinstance(rank, int) else None
