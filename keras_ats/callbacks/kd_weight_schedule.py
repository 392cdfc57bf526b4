"""The teacher's weight by a plan."""

from keras_ats.callbacks.schedule import Schedule, Values, as_values
from keras_ats.checks import non_negative_number


class KDWeightSchedule(Schedule):
    """Sets the distiller's `kd_weight` by epoch or by step; `student_weight` follows if it is left.

    Args:
        kd_weight: A number, a list, a dict or a function, as `values` of `Schedule`; at least 0, at
            most 1 where the distiller's `student_weight` follows from it.
        by: `"epoch"` (default) or `"step"`.

    Raises:
        TypeError: If `kd_weight` is of another kind, or the model is not a distiller.
        ValueError: If a weight is out of its range, before the first epoch.

    Example:

    ```python
    from keras_ats.callbacks import KDWeightSchedule, Ramp

    less_and_less = KDWeightSchedule(Ramp(0.9, 0.1, length=30, shape="cosine"))
    ```
    """

    def __init__(self, kd_weight: Values, *, by: str = "epoch") -> None:
        plan = as_values(kd_weight, "kd_weight", non_negative_number)
        super().__init__("kd_weight", plan, by=by)
