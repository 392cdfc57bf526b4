"""Networks by the names that papers give them."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_ats.models.builders.mobilenets_v2 import mobilenet_v2
from keras_ats.models.builders.resnets import resnet
from keras_ats.models.builders.resnexts import resnext
from keras_ats.models.builders.shufflenets_v1 import shufflenet_v1
from keras_ats.models.builders.shufflenets_v2 import shufflenet_v2
from keras_ats.models.builders.vggs import vgg
from keras_ats.models.builders.wide_resnets import wide_resnet

FOUR_TIMES = (32, 64, 128, 256)
"""Widths of the "x4" ResNets."""


@dataclass(frozen=True)
class _Family:
    """Networks whose names differ in numbers.

    Attributes:
        pattern: Of the whole name. Its groups are the numbers, named as the builder's arguments.
        build: Builder of the network.
        names: The members that papers use.
        fixed: Arguments that the names stand for beside their numbers.
    """

    pattern: str
    build: Callable[..., keras.Model]
    names: tuple[str, ...]
    fixed: dict[str, Any] = field(default_factory=dict)

    def said(self, name: str) -> dict[str, Any] | None:
        """The arguments that `name` stands for, None if it is of another family."""
        match = re.fullmatch(self.pattern, name, re.ASCII)
        if match is None:
            return None
        return {key: int(digits) for key, digits in match.groupdict().items()} | self.fixed


_FAMILIES = (
    _Family(
        r"resnet(?P<depth>\d+)",
        resnet,
        tuple(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)),
    ),
    _Family(
        r"resnet(?P<depth>\d+)x4",
        resnet,
        ("resnet8x4", "resnet32x4"),
        {"widths": FOUR_TIMES},
    ),
    _Family(
        r"wrn_(?P<depth>\d+)_(?P<widen_factor>\d+)",
        wide_resnet,
        ("wrn_16_2", "wrn_28_1", "wrn_28_8", "wrn_40_1", "wrn_40_2"),
    ),
    _Family(
        r"resnext(?P<depth>\d+)_(?P<cardinality>\d+)x(?P<base_width>\d+)",
        resnext,
        ("resnext29_8x4", "resnext29_32x4", "resnext29_8x64", "resnext29_16x64"),
    ),
    _Family(r"vgg(?P<depth>\d+)", vgg, ("vgg8", "vgg11", "vgg13")),
    _Family("shufflenet_v1", shufflenet_v1, ("shufflenet_v1",)),
    _Family("shufflenet_v2", shufflenet_v2, ("shufflenet_v2",)),
    _Family("mobilenet_v2", mobilenet_v2, ("mobilenet_v2",)),
)


def names() -> list[str]:
    """Returns the names of the networks that papers on distillation use; `get` knows more.

    Returns:
        Names for `get`.

    Example:

    ```python
    "wrn_40_2" in keras_ats.models.names()  # True
    ```
    """
    return [name for family in _FAMILIES for name in family.names]


def get(name: str, /, num_classes: int, **options: Any) -> keras.Model:
    """Returns a new network for CIFAR from its name, ending in logits.

    Weight decay is part of the network, because Keras's optimizers mean something else by it. The
    published recipes use torch's SGD, which adds `weight_decay * w` to the gradient of *every*
    weight: kernels, biases, and both weights of a batch normalisation. This is what
    `weight_decay=5e-4` does here, by L2 regularisers. `keras.optimizers.SGD(weight_decay=5e-4)`
    takes the share off the weights beside the gradient instead, where momentum does not multiply
    it: with a momentum of 0.9 that is about ten times weaker. Use one or the other, not both.

    Kernels start from He's normal distribution, biases at 0. The last layer starts from a normal
    distribution of standard deviation 0.01 (VGG, MobileNet) or within `1 / sqrt(fan_in)`.

    Args:
        name: One of `names()`, or a relative with other numbers: `"wrn_28_10"`,
            `"resnext29_4x24"`, `"resnet1202"`.
        num_classes: Number of logits, at least 2.
        **options: `input_shape`, by default `(32, 32, 3)`; `weight_decay`, by default 0; `name` of
            the model, by default the network's; and what else the network's builder takes, such as
            `dropout`.

    Returns:
        A model from images `(batch, height, width, channels)` to logits `(batch, num_classes)`,
        made of layers of Keras alone.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If there is no such network.

    Example:

    ```python
    student = keras_ats.models.get("resnet8", num_classes=100, weight_decay=5e-4)
    student.output_shape  # (None, 100)
    ```
    """
    if not isinstance(name, str):
        raise TypeError(
            f"A network is asked for by its name, such as 'resnet20'. Received: {name!r} of type "
            f"{type(name).__name__}."
        )
    for family in _FAMILIES:
        said = family.said(name)
        if said is not None:
            _check_options(options, said, name)
            return family.build(num_classes=num_classes, **said, **{"name": name, **options})
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names())
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"No network is named {name!r}.{hint} Expected one of {names()}, or one of their relatives "
        "with other numbers, such as 'wrn_28_10'."
    )


def _check_options(options: dict[str, Any], said: dict[str, Any], name: str) -> None:
    """Raises if an option says anew what the name says."""
    for argument in said:
        if argument in options:
            raise TypeError(
                f"The name '{name}' says that {argument}={said[argument]}. Received: "
                f"{argument}={options[argument]!r} beside it. Take another name, or call the "
                "builder of the family, such as `keras_ats.models.resnet`."
            )
