"""Names for what passes between functions, without importing any backend."""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the active backend, a NumPy array, or anything `keras.ops` converts."""

Nested: TypeAlias = Any
"""A tensor, or a list, tuple or dict of them, as `keras.Model.fit` takes."""

Config: TypeAlias = dict[str, Any]
"""What `get_config` returns: JSON-like values and serialised Keras objects."""

Shape: TypeAlias = tuple[int | None, ...]
"""A shape; None where a dimension is known only at run time."""
