"""CIFAR ResNets of He et al. (2016), as far as the benchmarks need them."""

import keras
from keras import layers


def resnet(depth: int, num_classes: int = 100, name: str | None = None) -> keras.Model:
    """A ResNet of depth 6n+2 for 32x32 images that returns logits."""
    inputs = keras.Input((32, 32, 3))
    features = _convolution(inputs, 16)
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for block in range((depth - 2) // 6):
            features = _residual_block(features, width, first_stride if block == 0 else 1)
    features = layers.GlobalAveragePooling2D()(features)
    return keras.Model(inputs, layers.Dense(num_classes)(features), name=name)


def _convolution(x: keras.KerasTensor, width: int, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _residual_block(x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = layers.Conv2D(width, 1, strides=stride, use_bias=False)(x)
        shortcut = layers.BatchNormalization()(shortcut)
    x = _convolution(x, width, stride)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), shortcut]))
