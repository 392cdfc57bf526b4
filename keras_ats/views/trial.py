"""What a model without a graph returns, found without running it on data."""

from typing import Any

import keras

from keras_ats._keras import compute_output_spec


def trial_outputs(model: keras.Model) -> dict[str, keras.KerasTensor] | None:
    """Returns the dict of tensors, by shape alone, that a subclassed model returns.

    Args:
        model: A subclassed model.

    Returns:
        What it returns, if that is a dict with an entry `logits`; None if it is anything else, or
        not known, because the model was not built on the shape of one input.
    """
    build_config = model.get_build_config() or {}
    shape = build_config.get("input_shape")
    if not isinstance(shape, list | tuple) or not all(
        one is None or isinstance(one, int) for one in shape
    ):
        return None
    inputs = keras.KerasTensor((None, *shape[1:]), dtype=model.input_dtype)
    try:
        said: Any = compute_output_spec(model.__call__, inputs)
    except Exception:  # It is the user's code: what it cannot do with shapes is not known.
        return None
    return said if isinstance(said, dict) and "logits" in said else None
