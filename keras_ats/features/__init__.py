"""Losses on inner layers: `features.Hint("student_layer", "teacher_layer")`, and their base."""

from keras_ats.features.attention_transfer import AttentionTransfer as AttentionTransfer
from keras_ats.features.class_attention import (
    ClassAttention as ClassAttention,
)
from keras_ats.features.contrastive_representation import (
    ContrastiveRepresentation as ContrastiveRepresentation,
)
from keras_ats.features.correlation_congruence import (
    CorrelationCongruence as CorrelationCongruence,
)
from keras_ats.features.feature_loss import FeatureLoss as FeatureLoss
from keras_ats.features.feature_loss import FeatureMap as FeatureMap
from keras_ats.features.feature_overhaul import (
    FeatureOverhaul as FeatureOverhaul,
)
from keras_ats.features.gaussian_wasserstein import (
    GaussianWasserstein as GaussianWasserstein,
)
from keras_ats.features.hint import Hint as Hint
from keras_ats.features.knowledge_review import (
    KnowledgeReview as KnowledgeReview,
)
from keras_ats.features.layers_table import layers as layers
from keras_ats.features.neuron_selectivity import (
    NeuronSelectivity as NeuronSelectivity,
)
from keras_ats.features.probabilistic_transfer import (
    ProbabilisticTransfer as ProbabilisticTransfer,
)
from keras_ats.features.relational_distances import (
    RelationalDistances as RelationalDistances,
)
from keras_ats.features.reused_classifier import (
    ReusedClassifier as ReusedClassifier,
)
from keras_ats.features.similarity_preserving import (
    SimilarityPreserving as SimilarityPreserving,
)
from keras_ats.features.variational_information import (
    VariationalInformation as VariationalInformation,
)

__all__ = [
    "AttentionTransfer",
    "ClassAttention",
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "FeatureLoss",
    "FeatureMap",
    "FeatureOverhaul",
    "GaussianWasserstein",
    "Hint",
    "KnowledgeReview",
    "NeuronSelectivity",
    "ProbabilisticTransfer",
    "RelationalDistances",
    "ReusedClassifier",
    "SimilarityPreserving",
    "VariationalInformation",
    "layers",
]
