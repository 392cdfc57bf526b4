"""Variational information distillation (VID)."""

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.projectors import dense, with_channels
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class VariationalInformation(FeatureLoss):
    r"""Lets the student predict the teacher's layer, as surely as each channel allows.

    What cannot be predicted gets a large variance, and weighs little: a bound on the information
    that the two layers share is maximised.

    $$L = \frac{1}{2 N C} \sum_{n, c} \Big[\frac{(\mu_{n c} - t_{n c})^2}{\sigma_c^2} +
    \log \sigma_c^2\Big], \qquad \sigma_c^2 = \log(1 + e^{\rho_c}) + \epsilon$$

    $\mu$ is made of the student's layer by three 1x1 convolutions with ReLUs between, and $\rho$ is
    trained. The constant $\log 2 \pi$ is left out, so the loss may be negative. The larger of two
    maps is averaged to the smaller one's sizes.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        initial_variance: Of every channel, above `epsilon`. Defaults to 5.
        hidden_channels: Width of the first two convolutions; None (default) as the teacher's layer.
        epsilon: $\epsilon > 0$, the least variance. Defaults to 1e-5.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a variance is not above 0, or the initial one not above the least.

    Example:

    ```python
    loss = keras_ats.features.VariationalInformation("stage3", "stage3")
    loss(np.random.rand(2, 4, 4, 8), np.random.rand(2, 4, 4, 16))
    ```

    Reference: Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
    arXiv 1904.05835; agrees with RepDistiller. mdistiller never trains its $\rho$.
    """

    same_ranks = True
    pairs_positions = True

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        initial_variance: float = 5.0,
        hidden_channels: int | None = None,
        epsilon: float = 1e-5,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.initial_variance = checks.positive_number(initial_variance, "initial_variance")
        self.hidden_channels = (
            None
            if hidden_channels is None
            else checks.as_integer(hidden_channels, "hidden_channels")
        )
        self.epsilon = checks.positive_number(epsilon, "epsilon")
        if self.initial_variance <= self.epsilon:
            raise ValueError(
                "`initial_variance` must be above `epsilon`, the least one. Received: "
                f"initial_variance={initial_variance!r}, epsilon={epsilon!r}."
            )
        self.regressors: list[list[keras.layers.Layer]] = []
        self.scales: list[keras.Variable] = []

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes the predictor of each of the teacher's layers."""
        self.regressors, self.scales = [], []
        scale = np.log(np.expm1(self.initial_variance - self.epsilon))
        for of_student, of_teacher in zip(student, teacher, strict=True):
            channels: Any = of_teacher[-1]
            hidden = self.hidden_channels or channels
            between = with_channels(of_student, hidden)
            widths = [(of_student, hidden), (between, hidden), (between, channels)]
            self.regressors.append([dense(shape, width, use_bias=False) for shape, width in widths])
            self.scales.append(
                keras.Variable(
                    np.full(channels, scale), dtype="float32", autocast=False, name="scale"
                )
            )

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each position, `(B, ...)`."""
        first, second, last = self.regressors[index]
        mean = last(ops.relu(second(ops.relu(first(student.values)))))
        variance = ops.softplus(ops.convert_to_tensor(self.scales[index])) + self.epsilon
        squares = ops.square(mean - teacher.values)
        return 0.5 * ops.mean(squares / variance + ops.log(variance), axis=-1)
