"""The networks of keras_ats.models once more, in plain torch functions and float64.

Each takes its weights from a Keras model, layer by layer in the order in which they were made, and
nothing else: strides, padding, order and shortcuts are stated here again, as the published code has
them. Images are `(batch, channels, height, width)`.
"""

import keras
import numpy as np
import torch
import torch.nn.functional as F
from torch import relu


class Weights:
    """The layers of a Keras model, handed out one after the other, as torch functions."""

    def __init__(self, model):
        self._layers = {}
        for kind in ("Conv2D", "DepthwiseConv2D", "BatchNormalization", "Dense"):
            found = [layer for layer in model.layers if type(layer).__name__ == kind]
            self._layers[kind] = iter(sorted(found, key=_number))

    def conv(self, x, strides=1):
        layer = next(self._layers["Conv2D"])
        kernel = _tensor(layer.kernel).permute(3, 2, 0, 1)
        return F.conv2d(
            x,
            kernel,
            None if layer.bias is None else _tensor(layer.bias),
            strides,
            padding=kernel.shape[-1] // 2,
            groups=x.shape[1] // kernel.shape[1],
        )

    def depthwise(self, x, strides=1):
        kernel = _tensor(next(self._layers["DepthwiseConv2D"]).kernel).permute(2, 3, 0, 1)
        return F.conv2d(x, kernel, None, strides, padding=1, groups=x.shape[1])

    def bn(self, x):
        layer = next(self._layers["BatchNormalization"])
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return F.batch_norm(x, *(_tensor(getattr(layer, name)) for name in names), eps=1e-5)

    def dense(self, x):
        layer = next(self._layers["Dense"])
        return F.linear(x.mean((2, 3)), _tensor(layer.kernel).T, _tensor(layer.bias))

    def assert_all_used(self):
        assert [next(layers, None) for layers in self._layers.values()] == [None] * 4


def _number(layer):
    """Layers of one kind are numbered as they are made: conv2d, conv2d_1, conv2d_2, ..."""
    digits = layer.name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def _tensor(variable):
    return torch.from_numpy(np.array(keras.ops.convert_to_numpy(variable), "float64"))


def resnet(w, x, blocks, projects_first=False):
    x = relu(w.bn(w.conv(x)))
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            first = block == 0 and (stage > 0 or projects_first)
            shortcut = w.bn(w.conv(x, strides)) if first else x
            x = w.bn(w.conv(relu(w.bn(w.conv(x, strides)))))
            x = relu(x + shortcut)
    return w.dense(x)


def wide_resnet(w, x, blocks, projects_first=False):
    x = w.conv(x)
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            before = relu(w.bn(x))
            first = block == 0 and (stage > 0 or projects_first)
            shortcut = w.conv(before, strides) if first else x
            x = w.conv(relu(w.bn(w.conv(before, strides)))) + shortcut
    return w.dense(relu(w.bn(x)))


def resnext(w, x, blocks):
    x = relu(w.bn(w.conv(x)))
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            shortcut = x if block else w.bn(w.conv(x, strides))
            x = relu(w.bn(w.conv(x)))
            x = relu(w.bn(w.conv(x, strides)))
            x = relu(w.bn(w.conv(x)) + shortcut)
    return w.dense(x)


def vgg(w, x, convolutions):
    pools = 4 if x.shape[2] == 64 else 3
    for block, count in enumerate(convolutions):
        for _ in range(count):
            x = relu(w.bn(w.conv(x)))
        x = F.max_pool2d(x, 2) if block < pools else x
    return w.dense(x)


def _shuffle(x, groups):
    batch, channels, *size = x.shape
    return x.view(batch, groups, channels // groups, *size).transpose(1, 2).reshape(x.shape)


def shufflenet_v1(w, x):
    x = relu(w.bn(w.conv(x)))
    for units in (4, 8, 4):
        for unit in range(units):
            strides = 1 if unit else 2
            path = relu(w.bn(w.conv(x)))
            path = _shuffle(path, 1 if x.shape[1] == 24 else 3)
            path = w.bn(w.conv(relu(w.bn(w.depthwise(path, strides)))))
            if unit:
                x = relu(path + x)
            else:
                x = relu(torch.cat([path, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))
    return w.dense(x)


def shufflenet_v2(w, x):
    x = relu(w.bn(w.conv(x)))
    for blocks in (3, 7, 3):
        left = w.bn(w.depthwise(x, 2))
        left = relu(w.bn(w.conv(left)))
        x = _shuffle(torch.cat([left, _right(w, x, 2)], 1), 2)
        for _ in range(blocks):
            kept, changed = x.chunk(2, 1)
            x = _shuffle(torch.cat([kept, _right(w, changed, 1)], 1), 2)
    return w.dense(relu(w.bn(w.conv(x))))


def _right(w, x, strides):
    x = relu(w.bn(w.conv(x)))
    return relu(w.bn(w.conv(w.bn(w.depthwise(x, strides)))))


def mobilenet_v2(w, x):
    x = relu(w.bn(w.conv(x, 2)))
    for blocks, first_strides in ((1, 1), (2, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)):
        for block in range(blocks):
            strides = 1 if block else first_strides
            inner = relu(w.bn(w.depthwise(relu(w.bn(w.conv(x))), strides)))
            outer = w.bn(w.conv(inner))
            x = outer + x if strides == 1 and outer.shape == x.shape else outer
    return w.dense(relu(w.bn(w.conv(x))))
