"""Contrastive representation distillation (CRD)."""

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_ats import checks
from keras_ats.features.feature_loss import FeatureLoss, FeatureOptions
from keras_ats.features.projectors import dense
from keras_ats.features.replicas import refuse_replicas
from keras_ats.features.rows import mean_rows
from keras_ats.ops.contrast import log_mean_exp, noise_contrast
from keras_ats.ops.feature_maps import l2_normalized
from keras_ats.record import Lesson, Needs
from keras_ats.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_ats")
class ContrastiveRepresentation(FeatureLoss):
    r"""Lets what both models make of a sample be told from what they make of others.

    Both layers are embedded, and the student's embedding of a sample is to be near the teacher's of
    the same sample and far from its embeddings of others, and the other way round. There must be
    many others, more than fit into a batch: the last embeddings of all samples are kept.

    $$L = \ell(v^S, m^T) + \ell(v^T, m^S), \qquad \ell(v, m) = \frac{1}{B} \sum_b \Big[
    -\log \frac{p_{b 0}}{p_{b 0} + c} - \sum_{k=1}^{K} \log \frac{K / N}{p_{b k} + c}\Big]$$

    with $p_{b k} = e^{\langle m_k, v_b \rangle / \tau} / Z$ for the kept embeddings of the sample
    itself ($k = 0$) and of $K$ others drawn from all $N$, $c = K / N + 10^{-7}$, and $Z$ as it was
    in the first batch. After a step $m \leftarrow$ the normalised mean of $m$ and $v$. In
    RepDistiller's comparison it weighs 0.8.

    The samples must be told apart: inputs are a dict with their numbers, `0` up to `N - 1`, under
    the key `ids`, which neither model is shown. A number out of that range makes the loss NaN. In
    an evaluation nothing is kept, and the partner is the embedding itself. Several replicas, each
    of which would keep embeddings of its own, are refused; on JAX devices share one bank.

    Args:
        student_layers: Name of the student's layer, made for the vector before the classifier; maps
            and tokens are averaged over their positions.
        teacher_layers: Name of the teacher's layer.
        samples: $N$, how many samples the training data have.
        dimensions: Width of the embeddings. Defaults to 128.
        negatives: $K$, how many others are drawn for each sample. Defaults to 16384.
        temperature: $\tau > 0$. Defaults to 0.07.
        momentum: Share of a kept embedding that stays, in [0, 1]. Defaults to 0.5.
        ids: Key of the samples' numbers in the inputs. Defaults to `"ids"`.
        seed: Whole number; equal seeds draw the same others. Defaults to 0.
        **options: As for `FeatureLoss`: `data_format`, `reduction`, `name`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a number is out of its range, or the model runs on several replicas.

    Example:

    ```python
    def network(width):
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(width, "relu", name="hidden"),
                keras.layers.Dense(3),
            ]
        )

    x, y = np.random.rand(32, 8), np.random.randint(0, 3, 32)
    loss = keras_ats.features.ContrastiveRepresentation(
        "hidden", "hidden", samples=32, negatives=16
    )
    distiller = keras_ats.Distiller(network(16), network(4))
    distiller.compile(kd_loss=loss, kd_weight=0.8, student_weight=1.0)
    distiller.fit({"inputs": x, "ids": np.arange(32)}, y, verbose=0)
    ```

    Reference: Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020,
    arXiv 1910.10699; agrees with RepDistiller, the authors' code, and mdistiller.
    """

    takes_lists = False

    def __init__(
        self,
        student_layers: str,
        teacher_layers: str,
        samples: int,
        *,
        dimensions: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        ids: str = "ids",
        seed: int = 0,
        **options: Unpack[FeatureOptions],
    ) -> None:
        super().__init__(student_layers, teacher_layers, **options)
        self.samples = checks.as_integer(samples, "samples", minimum=2)
        self.dimensions = checks.as_integer(dimensions, "dimensions")
        self.negatives = checks.as_integer(negatives, "negatives")
        self.temperature = self.add_variable(temperature, "temperature", checks.temperature)
        self.momentum = self.add_variable(momentum, "momentum", checks.fraction)
        self.ids = checks.as_string(ids, "ids", "the key of the samples' numbers in the inputs")
        self.seed = checks.as_whole_number(seed, "seed")
        self.embeddings: list[keras.layers.Layer] = []
        self.banks: list[keras.Variable] = []
        self.log_normalizers: Any = None
        self.random_state: Any = None
        self._generator: Any = None

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The two layers, and the samples' ids."""
        return super().needs._replace(ids=self.ids)

    def build_layers(self, student: list[Shape], teacher: list[Shape]) -> None:
        """Makes embeddings and banks."""
        refuse_replicas(type(self).__name__)
        self.embeddings = [
            dense((None, shape[-1]), self.dimensions) for shape in (student[0], teacher[0])
        ]
        random = np.random.default_rng(abs(self.seed))
        most = (3.0 / self.dimensions) ** 0.5
        size = (self.samples, self.dimensions)
        self.banks = [
            _kept(random.uniform(-most, most, size), name) for name in ("student", "teacher")
        ]
        # Of both sides, and whether a batch has set them: scalars would pass for settings.
        self.log_normalizers = _kept(np.zeros(3), "log_normalizers")
        self._generator = keras.random.SeedGenerator(abs(self.seed))
        self.random_state = self._generator.state

    def draw(self, count: Any, training: bool) -> Tensor:
        """Returns the numbers of the others, `(count, negatives)`; the same in every evaluation."""
        seed = self._generator if training else abs(self.seed)
        return keras.random.randint(
            (count, self.negatives), 0, self.samples, dtype="int32", seed=seed
        )

    def parts(self, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the loss of one batch under its name, and keeps its embeddings in training."""
        refuse_replicas(type(self).__name__)
        maps = [side[0] for side in self.shown(lesson)]
        student, teacher = (
            l2_normalized(embedding(mean_rows(one)))
            for one, embedding in zip(maps, self.embeddings, strict=True)
        )
        ids, valid = self._checked_ids(lesson, ops.shape(student)[0])
        drawn = self.draw(ops.shape(student)[0], lesson.training)
        of_teacher, of_student = (
            self._scores(own, other, bank, ids, drawn)
            for own, other, bank in (
                (student, teacher, self.banks[1]),
                (teacher, student, self.banks[0]),
            )
        )
        values = self._contrasted(of_teacher, of_student, lesson.training)
        if ids is not None:
            values = ops.where(valid, values, float("nan"))
        if lesson.training and ids is not None:
            for bank, embedded in zip(self.banks, (student, teacher), strict=True):
                self._keep(bank, ids, embedded)
        return {self.name: self.reduced(values, maps[0].mask, lesson.sample_weight)}

    def _checked_ids(self, lesson: Lesson, count: Any) -> tuple[Tensor | None, Tensor | None]:
        """The ids, and which of them are numbers of samples."""
        if not lesson.training:
            return None, None
        if lesson.ids is None:
            raise ValueError(
                "ContrastiveRepresentation must be told which samples a batch has. Received: "
                f"inputs without {self.ids!r}. Expected: a dict of the models' inputs and of the "
                f"samples' numbers, {{'inputs': x, {self.ids!r}: numpy.arange({self.samples})}}, "
                "or a dataset of such; `with_ids=True` of keras_ats.data gives them."
            )
        ids = ops.cast(ops.reshape(lesson.ids, (-1,)), "int32")
        valid = ops.logical_and(ids >= 0, ids < self.samples)
        return ops.clip(ids, 0, self.samples - 1), valid

    def _scores(
        self, own: Tensor, other: Tensor, bank: keras.Variable, ids: Tensor | None, drawn: Tensor
    ) -> Tensor:
        """Scores against the kept partner, or the present one without ids, and the others."""
        # A copy, because torch writes into the bank before it looks for gradients.
        kept = ops.stop_gradient(ops.copy(ops.convert_to_tensor(bank)))
        # Against all, since those drawn for each sample would be more numbers to gather.
        scores = ops.matmul(own, ops.transpose(kept))
        if ids is None:
            partner = ops.sum(own * other, axis=-1, keepdims=True)
        else:
            partner = ops.take_along_axis(scores, ops.expand_dims(ids, 1), axis=1)
        others = ops.take_along_axis(scores, drawn, axis=1)
        return ops.concatenate([partner, others], axis=1) / self.temperature.value

    def _contrasted(self, of_teacher: Tensor, of_student: Tensor, training: bool) -> Tensor:
        # The authors' order: that of the student's embeddings, scored by the teacher's bank, first.
        state = ops.convert_to_tensor(self.log_normalizers)
        now = [
            ops.stop_gradient(log_mean_exp(scores)) + float(np.log(self.samples))
            for scores in (of_teacher, of_student)
        ]
        is_set = state[2] > 0
        used = [ops.where(is_set, state[side], now[side]) for side in (0, 1)]
        if training:
            self.log_normalizers.assign(ops.stack([*used, ops.ones_like(state[2])]))
        return noise_contrast(of_teacher, used[0], self.samples) + noise_contrast(
            of_student, used[1], self.samples
        )

    def _keep(self, bank: keras.Variable, ids: Tensor, embedded: Tensor) -> None:
        kept = ops.take(ops.convert_to_tensor(bank), ids, axis=0)
        share = ops.convert_to_tensor(self.momentum)
        new = l2_normalized(share * kept + (1.0 - share) * ops.stop_gradient(embedded))
        bank.assign(ops.scatter_update(bank, ops.expand_dims(ids, 1), new))


def _kept(values: Any, name: str) -> keras.Variable:
    return keras.Variable(values, dtype="float32", trainable=False, autocast=False, name=name)
