"""How the samples of a batch lie to one another, in what two models' inner layers say.

Rows are samples, `(B, D)`; the result is one value per sample, `(B,)`, whose mean is the loss.
"""

from keras import ops

from keras_ats.ops.feature_maps import l2_normalized
from keras_ats.types import Tensor


def similarity_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of normalised rows of inner products, divided by the batch size."""
    difference = _similarities(student) - _similarities(teacher)
    return ops.mean(ops.square(difference), axis=-1)


def distance_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber's distance between the distances of samples, each side's relative to their mean."""
    return ops.mean(huber(_distances(student) - _distances(teacher)), axis=-1)


def angle_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber's distance between the cosines of the angles that a sample sees two others at."""
    return ops.mean(huber(_angles(student) - _angles(teacher)), axis=(1, 2))


def transfer_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of each sample's probabilities of being neighbours, from cosines."""
    p, q = _neighbour_probabilities(teacher), _neighbour_probabilities(student)
    return ops.mean(p * (ops.log(p + 1e-7) - ops.log(q + 1e-7)), axis=-1)


def consecutive_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Products of the differences of each sample and of the next one in the batch.

    The last sample, which has no next one, gets 0, and the others their share of the mean.
    """
    difference = ops.abs(student - teacher)
    products = ops.sum(difference[:-1] * difference[1:], axis=-1)
    pairs = ops.cast(ops.shape(products)[0], "float32")
    return ops.pad(products * ((pairs + 1.0) / ops.maximum(pairs, 1.0)), [[0, 1]])


def huber(difference: Tensor) -> Tensor:
    """Half the square up to 1, and the distance less a half beyond."""
    distance = ops.abs(difference)
    within = ops.minimum(distance, 1.0)
    return within * (distance - 0.5 * within)


def _similarities(rows: Tensor) -> Tensor:
    return l2_normalized(ops.matmul(rows, ops.transpose(rows)))


def _distances(rows: Tensor) -> Tensor:
    """Distances of any two rows, divided by the mean of those that are above 0."""
    squares = ops.sum(ops.square(_differences(rows)), axis=-1)
    apart = squares > 1e-12
    # The square root has no gradient at 0.
    distances = ops.where(apart, ops.sqrt(ops.where(apart, squares, 1.0)), 0.0)
    count = ops.sum(ops.cast(apart, "float32"))
    mean = ops.sum(distances) / ops.maximum(count, 1.0)
    return distances / ops.where(count > 0, mean, 1.0)


def _angles(rows: Tensor) -> Tensor:
    """Cosine at `i` between the ways to `j` and to `k`, `(B, B, B)`."""
    ways = l2_normalized(_differences(rows))
    return ops.matmul(ways, ops.swapaxes(ways, 1, 2))


def _differences(rows: Tensor) -> Tensor:
    """From sample `i`, the first axis, to sample `j`."""
    return ops.expand_dims(rows, 0) - ops.expand_dims(rows, 1)


def _neighbour_probabilities(rows: Tensor) -> Tensor:
    rows = l2_normalized(rows, epsilon=1e-7)
    similarities = (ops.matmul(rows, ops.transpose(rows)) + 1.0) / 2.0
    return similarities / ops.sum(similarities, axis=-1, keepdims=True)
