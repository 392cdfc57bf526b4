"""Layers between a student's features and a teacher's: float32, channels last, any rank."""

from typing import Any

import keras
from keras import layers, ops

from keras_ats.ops.orthogonal import cayley_columns
from keras_ats.types import Shape, Tensor

_CONVOLUTIONS = {3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}


def dense(shape: Shape, channels: int, *, use_bias: bool = True) -> keras.layers.Layer:
    """Returns a linear layer on the channels of each position: a 1x1 convolution of maps."""
    layer = layers.Dense(channels, use_bias=use_bias, dtype="float32")
    layer.build(shape)
    return layer


def convolution(shape: Shape, channels: int, size: int) -> keras.layers.Layer:
    """Returns a convolution that keeps sizes, without bias; of vectors, a linear layer."""
    if size == 1 or len(shape) == 2:
        return dense(shape, channels, use_bias=False)
    layer = _CONVOLUTIONS[len(shape)](
        channels,
        size,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        dtype="float32",
    )
    # Masked positions are zeros to it, as what lies beyond the border is.
    layer.supports_masking = True
    layer.build(shape)
    return layer


def normalization(shape: Shape) -> keras.layers.Layer:
    """Returns a BatchNormalization of the channels, as PyTorch has it."""
    layer = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float32")
    layer.build(shape)
    return layer


def with_channels(shape: Shape, channels: int) -> Shape:
    """Returns the shape with another number of channels."""
    return (*shape[:-1], channels)


class Stack(keras.layers.Layer):
    """Convolutions, each with BatchNormalization and, but for the last, a ReLU.

    Args:
        shape: Shape of what it is called on, `(None, ..., C)`.
        units: Channels and size of each convolution.
        last_activation: Whether a ReLU stands at the end too.
    """

    def __init__(
        self, shape: Shape, units: list[tuple[int, int]], last_activation: bool = True
    ) -> None:
        super().__init__(dtype="float32")
        self.supports_masking = True
        self.last_activation = last_activation
        self.convolutions, self.normalizations = [], []
        for channels, size in units:
            self.convolutions.append(convolution(shape, channels, size))
            shape = with_channels(shape, channels)
            self.normalizations.append(normalization(shape))
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Returns what the last of them says; masked positions have no say, and get 0."""
        last = len(self.convolutions) - 1
        for index, one in enumerate(self.convolutions):
            inputs = self.normalizations[index](one(inputs), training=training, mask=mask)
            if index < last or self.last_activation:
                inputs = ops.relu(inputs)
            if mask is not None:
                inputs = ops.where(ops.expand_dims(mask, -1), inputs, 0.0)
        return inputs


class OrthogonalProjector(keras.layers.Layer):
    """A linear layer whose matrix keeps angles: orthonormal columns, or rows of a wider student.

    Args:
        student_channels: Width of what it is called on.
        teacher_channels: Width of what it returns.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__(dtype="float32")
        most, least = (f(student_channels, teacher_channels) for f in (max, min))
        self.transposed = teacher_channels < student_channels
        self.lower = self.add_weight(shape=(most, least), initializer="zeros", name="lower")
        self.base = self.add_weight(
            shape=(most, most),
            initializer=keras.initializers.Orthogonal(),
            trainable=False,
            name="base",
        )
        self.built = True

    @property
    def matrix(self) -> Tensor:
        """The present matrix, `(teacher_channels, student_channels)`."""
        columns = ops.matmul(ops.convert_to_tensor(self.base), cayley_columns(self.lower.value))
        return ops.transpose(columns) if self.transposed else columns

    def call(self, inputs: Tensor) -> Tensor:
        """Returns `(..., teacher_channels)` for `(..., student_channels)`."""
        return ops.matmul(inputs, ops.transpose(self.matrix))
