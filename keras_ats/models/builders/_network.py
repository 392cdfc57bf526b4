"""What all networks here are made of, as torch has it: padding, initial values, weight decay.

Only layers of Keras itself, so that a saved network loads where keras_ats is not installed; and
always channels last, whatever `keras.config.image_data_format()` says.
"""

from typing import Any

import keras
from keras import initializers, layers

from keras_ats.checks import as_integer
from keras_ats.models._checks import number_within
from keras_ats.models.builders._sizes import image_shape

DATA_FORMAT = "channels_last"


class Network:
    """Adds the layers of one network; all weights share one weight decay.

    Args:
        num_classes: Number of logits, at least 2.
        input_shape: Height, width and channels of an image.
        weight_decay: What is added to the gradient of a weight, as a multiple of the weight.
        name: Name of the model.
    """

    def __init__(
        self, num_classes: int, input_shape: tuple[int, int, int], weight_decay: float, name: Any
    ) -> None:
        self.num_classes = as_integer(num_classes, "num_classes", minimum=2)
        self.inputs = keras.Input(image_shape(input_shape))
        # The gradient of L2(c) is 2 c w.
        decay = number_within(weight_decay, "weight_decay", 0) / 2
        self.regularizer = keras.regularizers.L2(decay) if decay else None
        self.name = name

    def convolution(
        self,
        x: keras.KerasTensor,
        filters: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        groups: int = 1,
        use_bias: bool = False,
    ) -> keras.KerasTensor:
        """A convolution that pads as torch does, with He's initial values."""
        x, padding = _pad(x, kernel_size, strides)
        return layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=DATA_FORMAT,
            groups=groups,
            use_bias=use_bias,
            kernel_initializer=_he(),
            kernel_regularizer=self.regularizer,
            bias_regularizer=self.regularizer if use_bias else None,
        )(x)

    def depthwise(self, x: keras.KerasTensor, strides: int = 1) -> keras.KerasTensor:
        """A 3x3 convolution of each channel by itself."""
        x, padding = _pad(x, 3, strides)
        return layers.DepthwiseConv2D(
            3,
            strides=strides,
            padding=padding,
            data_format=DATA_FORMAT,
            use_bias=False,
            # What Keras takes for the fan-out of such a kernel, 9, is the true fan-in.
            depthwise_initializer=_he(),
            depthwise_regularizer=self.regularizer,
        )(x)

    def batch_norm(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Batch normalisation with torch's constants."""
        return layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-5,
            beta_regularizer=self.regularizer,
            gamma_regularizer=self.regularizer,
        )(x)

    def batch_norm_relu(self, x: keras.KerasTensor, name: str | None = None) -> keras.KerasTensor:
        """Batch normalisation and ReLU, which has the name."""
        return layers.ReLU(name=name)(self.batch_norm(x))

    def model(
        self, features: keras.KerasTensor, kernel_initializer: Any | None = None
    ) -> keras.Model:
        """Pools the features and ends in logits.

        Args:
            features: Output of the last convolution, `(batch, height, width, channels)`.
            kernel_initializer: Of the Dense layer. Defaults to torch's uniform one; the bias always
                starts at 0.

        Returns:
            The model.
        """
        if kernel_initializer is None:
            # Within 1 / sqrt(fan_in).
            kernel_initializer = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        pooled = layers.GlobalAveragePooling2D(data_format=DATA_FORMAT, name="pool")(features)
        logits = layers.Dense(
            self.num_classes,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=self.regularizer,
            bias_regularizer=self.regularizer,
            name="logits",
        )(pooled)
        return keras.Model(self.inputs, logits, name=self.name)


def stage_name(number: int, is_last: bool = True) -> str | None:
    """Name of the layer that a stage ends in; None for its layers before.

    Stages are counted by sizes, not by blocks: stage n ends where the image has been halved n - 1
    times, so that stages of one name fit together whatever the networks. The last of them is what
    the classifier reads the mean of.

    Args:
        number: n.
        is_last: Whether this is the last block of the stage.
    """
    return f"stage{number}" if is_last else None


def channel_shuffle(
    x: keras.KerasTensor, groups: int, name: str | None = None
) -> keras.KerasTensor:
    """Deals the channels of each group out to all groups; the last of its layers has the name."""
    *image, channels = x.shape[1:]
    x = layers.Reshape((*image, groups, channels // groups))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    return layers.Reshape((*image, channels), name=name)(x)


def average_pool(x: keras.KerasTensor) -> keras.KerasTensor:
    """Halves height and width: means of 3x3 pixels, zeros beyond the border counted as pixels."""
    x = zero_padding(x)
    return layers.AveragePooling2D(3, strides=2, data_format=DATA_FORMAT)(x)


def max_pool(x: keras.KerasTensor) -> keras.KerasTensor:
    """Halves height and width: maxima of 2x2 pixels."""
    return layers.MaxPooling2D(2, data_format=DATA_FORMAT)(x)


def zero_padding(x: keras.KerasTensor) -> keras.KerasTensor:
    """Adds one row or column of zeros on every side."""
    return layers.ZeroPadding2D(1, data_format=DATA_FORMAT)(x)


def _pad(x: keras.KerasTensor, kernel_size: int, strides: int) -> tuple[keras.KerasTensor, str]:
    # With a stride of 2 Keras's "same" pads an even size at the right and bottom only, one pixel
    # off the 1x1 shortcut beside it.
    if kernel_size > 1 and strides > 1:
        return zero_padding(x), "valid"
    return x, "same"


def _he() -> Any:
    # A new one for each layer: in Keras 3 an initializer returns the same values at every call.
    return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
