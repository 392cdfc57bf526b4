"""What a cache will cost, before it is made."""

import time
from typing import Any, NamedTuple

from keras_ats.teachers.cache.plan import batches_of, length_of, plan_of
from keras_ats.teachers.cache.shards import bytes_of_a_view
from keras_ats.views.read import FromLogits

_TIMED = 3


class CacheEstimate(NamedTuple):
    """What a cache will cost.

    Attributes:
        rows: Samples times views.
        bytes: On disk.
        seconds: Of the teacher, on this machine.
    """

    rows: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, {self.seconds / 60:,.1f} minutes"


def estimate_cache(
    teacher: Any,
    data: Any,
    *,
    views: int | None = None,
    augment: bool | None = None,
    padding: int | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    ids: Any = None,
    top_k: int | None = None,
    dtype: str = "float16",
    classes: int | None = None,
    name: str | None = None,
    from_logits: FromLogits = None,
    batch_size: int = 128,
) -> CacheEstimate:
    """Says how large a cache will be and how long it will take; writes nothing.

    The size is exact. The time is that of three batches, after one that compiles.

    Args:
        teacher: As for `cache_teacher`, and so are all others.
        data: Likewise.
        views: Likewise.
        augment: Likewise.
        padding: Likewise.
        mixup: Likewise.
        cutmix: Likewise.
        ids: Likewise.
        top_k: Likewise.
        dtype: Likewise.
        classes: Likewise.
        name: Likewise.
        from_logits: Likewise.
        batch_size: Likewise.

    Returns:
        Rows, bytes and seconds; as a string such as "400,000 rows, 81.6 MB, 3.2 minutes".

    Example:

    ```python
    teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    keras_ats.teachers.estimate_cache(teacher, np.zeros((64, 8), "float32")).bytes
    ```
    """
    plan = plan_of(
        teacher,
        data,
        views=views,
        seed=0,
        ids=ids,
        top_k=top_k,
        dtype=dtype,
        classes=classes,
        name=name,
        from_logits=from_logits,
        batch_size=batch_size,
        options={"augment": augment, "padding": padding, "mixup": mixup, "cutmix": cutmix},
    )
    start = time.perf_counter()
    end = min(len(plan.source), _TIMED * plan.batch_size)
    seen = list(plan.source.batches(batches_of(0, 0, end, plan.batch_size)))
    for one in seen:
        plan.rows(one)
    spent = time.perf_counter() - start
    rows = plan.views * len(plan.source)
    size = bytes_of_a_view(plan.record, len(plan.source), plan.shard_size)
    timed = sum(length_of(one.inputs) for one in seen)
    return CacheEstimate(rows, plan.views * size, spent * rows / timed)
