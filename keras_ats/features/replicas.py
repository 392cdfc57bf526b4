"""Whether a step is one of several that run on shares of a batch, each by itself."""

import sys

import keras


def refuse_replicas(loss: str) -> None:
    """Raises if there are several replicas, for a loss that must see all that was seen.

    Args:
        loss: Name of the loss.

    Raises:
        ValueError: If a strategy of `tf.distribute`, or torch's process group, has several.
    """
    count = _replicas()
    if count > 1:
        raise ValueError(
            f"{loss} keeps what it has seen of each sample, and each of several replicas would "
            f"keep something else. Received: {count} replicas. Train on one device, or on JAX, "
            "whose devices share one batch."
        )


def _replicas() -> int:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)
    # Not imported here where nobody has.
    distributed = sys.modules.get("torch.distributed") if backend == "torch" else None
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return int(distributed.get_world_size())
