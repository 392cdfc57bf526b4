"""The random numbers that no model owns: Python's, NumPy's, and torch's on torch."""

import random
from typing import Any, cast

import keras
import numpy as np

from keras_ats.types import Config


def random_state() -> Config:
    """Returns the state of all global generators, as JSON values.

    Keras's own dropout on torch, a `DataLoader` that shuffles, and augmentation in Python draw
    from these. JAX has none, and TensorFlow's cannot be read.
    """
    # The generator that scripts still share is the legacy one.
    name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002
    state: Config = {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}
    if keras.backend.backend() == "torch":
        import torch

        state["torch"] = torch.get_rng_state().tolist()
        if torch.cuda.is_available():
            state["cuda"] = [each.tolist() for each in torch.cuda.get_rng_state_all()]
    return state


def set_random_state(state: Config) -> None:
    """Sets what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, "uint32"), *rest))  # noqa: NPY002
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(
                [torch.tensor(each, dtype=torch.uint8) for each in state["cuda"]]
            )
