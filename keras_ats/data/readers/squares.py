"""Images of any size, made square."""

from keras_ats.data.tensorflow_modules import import_tensorflow
from keras_ats.types import Tensor


def square(image: Tensor, size: int) -> Tensor:
    """Cuts the largest square out of the middle and scales it.

    Args:
        image: Shape `(height, width, channels)`, uint8.
        size: Height and width to come to.

    Returns:
        Shape `(size, size, channels)`, uint8. Bilinear, smoothed where it shrinks.
    """
    tf = import_tensorflow()
    shape = tf.shape(image)
    edge = tf.minimum(shape[0], shape[1])
    image = tf.image.crop_to_bounding_box(
        image, (shape[0] - edge) // 2, (shape[1] - edge) // 2, edge, edge
    )
    image = tf.image.resize(image, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
