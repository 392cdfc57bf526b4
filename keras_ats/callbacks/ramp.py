"""Values that lead from one number to another."""

import math

from keras_ats.checks import as_integer, finite_number, one_of


class Ramp:
    r"""Leads from `start` to `end` in so many epochs or steps, and stays there.

    At place $n$, counted from 0, with $t = \min(n / N, 1)$: `"linear"` is
    $a + (b - a) \, t$, `"cosine"` $a + \tfrac{1}{2} (b - a)(1 - \cos \pi t)$. A warm-up is
    `Ramp(0.0, value, length)`.

    Args:
        start: $a$, the value at place 0.
        end: $b$, the value from place $N$ on.
        length: $N \ge 1$.
        shape: `"linear"` (default) or `"cosine"`.

    Raises:
        TypeError: If a value is not a number, or `length` not an integer.
        ValueError: If a value is not finite, `length` below 1, or `shape` another.

    Example:

    ```python
    ramp = keras_ats.callbacks.Ramp(8.0, 2.0, 10)
    [ramp(0), ramp(5), ramp(20)]  # [8.0, 5.0, 2.0]
    ```
    """

    def __init__(self, start: float, end: float, length: int, shape: str = "linear") -> None:
        self.start = finite_number(start, "start")
        self.end = finite_number(end, "end")
        self.length = as_integer(length, "length")
        self.shape = one_of(shape, "shape", ("linear", "cosine"))

    def __call__(self, place: int) -> float:
        """Returns the value at a place counted from 0."""
        progress = min(place / self.length, 1.0)
        if self.shape == "cosine":
            progress = 0.5 * (1.0 - math.cos(math.pi * progress))
        return self.start + (self.end - self.start) * progress
