"""Tests that need not run on every backend."""

import keras
import pytest

# torch compiles nothing and is done first, so it takes what any of the three could.
CHEAPEST = "torch"


def on_one_backend(reason: str) -> pytest.MarkDecorator:
    """For tests of what does not depend on the backend; `reason` says why it does not."""
    return pytest.mark.skipif(
        keras.backend.backend() != CHEAPEST, reason=f"on {CHEAPEST} alone: {reason}"
    )
