"""Hints: an inner layer of the student matched with one of the teacher."""

from typing import Any, Literal, Unpack

import keras
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureMap, FeatureOptions, Layers
from keras_ats.features.projectors import OrthogonalProjector, dense
from keras_ats.features.rows import mean_rows
from keras_ats.ops.orthogonal import layer_normalized
from keras_ats.ops.sample_relations import huber
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class Hint(FeatureLoss):
    r"""Matches a layer of the student, through a projector, with one of the teacher.

    What a teacher has computed halfway says more of a sample than its logits do. The student's
    layer need not be as wide: a linear projector, trained with it and left behind, does that.

    $$L = \frac{1}{N C} \sum_{n, c} d\big((P s_n)_c - t_{n c}\big)$$

    over the $N$ positions of a batch, with $d(x) = x^2$, or Huber's distance. The defaults are
    FitNets' with the 1x1 projector that is usual now. With
    `projector="orthogonal", normalize=True, pool=True, distance="huber"` it is VkD: the projector
    keeps angles, so that all learning happens in the student, and the pair may be any, a CNN and a
    transformer too.

    Args:
        student_layers: As for `FeatureLoss`.
        teacher_layers: As for `FeatureLoss`.
        projector: `"linear"` (default), with a bias; `"orthogonal"`, whose matrix is Cayley's map
            of what is trained; or None for layers of one width.
        normalize: Whether the teacher's features get mean 0 and variance 1 over the channels of
            each position, as LayerNorm does it. Defaults to False.
        pool: Whether both sides are averaged over their positions first, for layers of different
            sizes or ranks. Defaults to False, which needs the same sizes.
        distance: `"squared"` (default) or `"huber"`, half the square up to 1.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is none of those.

    Example:

    ```python
    loss = keras_ats.features.Hint("stage3", "stage3", projector=None)
    loss(np.ones((2, 4, 4, 8)), np.zeros((2, 4, 4, 8)))  # 1.0
    ```

    Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, arXiv 1412.6550; Miles,
    Elezi, Deng, "VkD: Improving Knowledge Distillation using Orthogonal Projections", CVPR 2024,
    arXiv 2403.06213. Agrees with RepDistiller, and with the authors' code of VkD.
    """

    def __init__(
        self,
        student_layers: Layers,
        teacher_layers: Layers,
        *,
        projector: Literal["linear", "orthogonal"] | None = "linear",
        normalize: bool = False,
        pool: bool = False,
        distance: Literal["squared", "huber"] = "squared",
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.projector = (
            None
            if projector is None
            else checks.one_of(projector, "projector", ("linear", "orthogonal"))
        )
        self.normalize = checks.as_boolean(normalize, "normalize")
        self.pool = checks.as_boolean(pool, "pool")
        self.distance = checks.one_of(distance, "distance", ("squared", "huber"))
        self.same_sizes = self.pairs_positions = not self.pool
        self.same_channels = self.projector is None
        self.projectors: list[keras.layers.Layer] = []

    @property
    def remedy_of_sizes(self) -> str:
        """What else may be done about maps of different sizes."""
        return " Or pass pool=True, which compares their means over positions."

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes a projector for each pair."""
        self.projectors = []
        for of_student, of_teacher in zip(student, teacher, strict=True):
            own: Any = of_student[-1]
            wanted: Any = of_teacher[-1]
            if self.projector == "linear":
                shape = (None, own) if self.pool else of_student
                self.projectors.append(dense(shape, wanted))
            elif self.projector == "orthogonal":
                self.projectors.append(OrthogonalProjector(own, wanted))

    def compare_pair(self, index: int, student: FeatureMap, teacher: FeatureMap) -> Tensor:
        """Returns the loss of each position, `(B, ...)`; of each sample with `pool`."""
        if self.pool:
            student, teacher = FeatureMap(mean_rows(student)), FeatureMap(mean_rows(teacher))
        projected = self.projectors[index](student.values) if self.projectors else student.values
        target = layer_normalized(teacher.values) if self.normalize else teacher.values
        difference = projected - target
        values = huber(difference) if self.distance == "huber" else ops.square(difference)
        return ops.mean(values, axis=-1)
