"""Every loss on inner layers, for the tests that all of them must pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import models
from keras import layers

from keras_ats import features

SAMPLES = 16


@dataclass(frozen=True)
class FeatureCase:
    """A loss, and what is particular about it.

    Attributes:
        create: Makes it of names of layers and options.
        layers: The layers of `network` that it compares there.
        compares_samples: Whether the loss of a sample depends on the others in the batch.
        sees_padding: Whether it matters how much padding there is, whatever that holds.
        has_ids: Whether it must be told which samples a batch has.
        weight: What makes it about as large as others.
    """

    create: Callable[..., features.FeatureLoss]
    layers: Any = "stage2"
    compares_samples: bool = False
    sees_padding: bool = False
    has_ids: bool = False
    weight: float = 1.0


def orthogonal_hint(*names, **options):
    return features.Hint(
        *names,
        projector="orthogonal",
        normalize=True,
        pool=True,
        distance="huber",
        **{"name": "orthogonal_hint", **options},
    )


def crd(*names, **options):
    return features.ContrastiveRepresentation(
        *names, samples=SAMPLES, negatives=8, dimensions=4, **options
    )


CASES = {
    "hint": FeatureCase(features.Hint),
    "orthogonal_hint": FeatureCase(orthogonal_hint),
    "attention_transfer": FeatureCase(features.AttentionTransfer, weight=30.0),
    "neuron_selectivity": FeatureCase(features.NeuronSelectivity, weight=10.0),
    "variational_information": FeatureCase(features.VariationalInformation),
    "similarity_preserving": FeatureCase(
        features.SimilarityPreserving, compares_samples=True, weight=30.0
    ),
    "relational_distances": FeatureCase(
        features.RelationalDistances, "pool", compares_samples=True
    ),
    "probabilistic_transfer": FeatureCase(
        features.ProbabilisticTransfer, "pool", compares_samples=True, weight=1000.0
    ),
    "correlation_congruence": FeatureCase(
        features.CorrelationCongruence, "pool", compares_samples=True, weight=0.1
    ),
    # BatchNormalization compares samples.
    "feature_overhaul": FeatureCase(
        features.FeatureOverhaul, "before", compares_samples=True, weight=0.01
    ),
    "knowledge_review": FeatureCase(
        features.KnowledgeReview, ["stage2", "pool"], compares_samples=True, sees_padding=True
    ),
    "gaussian_wasserstein": FeatureCase(features.GaussianWasserstein, compares_samples=True),
    "reused_classifier": FeatureCase(features.ReusedClassifier, compares_samples=True),
    "class_attention": FeatureCase(features.ClassAttention, sees_padding=True, weight=10.0),
    # Others are drawn for each sample, and all are scaled by what the first batch showed.
    "contrastive_representation": FeatureCase(crd, "pool", compares_samples=True, has_ids=True),
}


def network(width, name=None, **options):
    """A CNN that has all that the losses need."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(width, 3, strides=2, padding="same", name="stage1", **options),
            layers.BatchNormalization(name="before", **options),
            layers.ReLU(**options),
            layers.Conv2D(2 * width, 3, strides=2, padding="same", name="stage2", **options),
            layers.GlobalAveragePooling2D(name="pool", **options),
            layers.Dense(models.CLASSES, name="head", **options),
        ],
        name=name,
    )


def all_losses():
    """Each of them once, for `network`."""
    return [case.create(case.layers, case.layers) for case in CASES.values()]


def data(rng):
    """Inputs with the samples' numbers, and class ids."""
    x = rng.normal(size=(SAMPLES, 8, 8, 3)).astype("float32")
    ids = rng.permutation(SAMPLES).astype("int32")
    return {"x": x, "ids": ids}, rng.integers(0, models.CLASSES, SAMPLES)
