"""Pure tensor functions: classes on the last axis, any leading axes, float32 inside, unreduced."""

from keras_ats.ops.class_groups import (
    correct_wrong_log_softmax as correct_wrong_log_softmax,
)
from keras_ats.ops.class_groups import weighted_log_softmax as weighted_log_softmax
from keras_ats.ops.class_groups import wrong_class_log_softmax as wrong_class_log_softmax
from keras_ats.ops.correlation import pearson_correlation as pearson_correlation
from keras_ats.ops.divergences import bernoulli_kl_divergence as bernoulli_kl_divergence
from keras_ats.ops.divergences import cross_entropy as cross_entropy
from keras_ats.ops.divergences import jensen_shannon_divergence as jensen_shannon_divergence
from keras_ats.ops.divergences import kl_divergence as kl_divergence
from keras_ats.ops.divergences import reverse_kl_divergence as reverse_kl_divergence
from keras_ats.ops.labels import are_class_ids as are_class_ids
from keras_ats.ops.labels import label_distribution as label_distribution
from keras_ats.ops.labels import label_indicator as label_indicator
from keras_ats.ops.labels import top_class_indicator as top_class_indicator
from keras_ats.ops.positions import weights_of_positions as weights_of_positions
from keras_ats.ops.probabilities import bernoulli_logits as bernoulli_logits
from keras_ats.ops.probabilities import (
    centered_log_probabilities as centered_log_probabilities,
)
from keras_ats.ops.softmax import asymmetric_log_softmax as asymmetric_log_softmax
from keras_ats.ops.softmax import asymmetric_softmax as asymmetric_softmax
from keras_ats.ops.softmax import asymmetric_temperature as asymmetric_temperature
from keras_ats.ops.softmax import temperature_log_softmax as temperature_log_softmax
from keras_ats.ops.softmax import temperature_softmax as temperature_softmax
from keras_ats.ops.standardize import standardized_logits as standardized_logits
from keras_ats.ops.wrong_classes import KDParts as KDParts
from keras_ats.ops.wrong_classes import decompose_kd as decompose_kd
from keras_ats.ops.wrong_classes import derived_average as derived_average
from keras_ats.ops.wrong_classes import derived_variance as derived_variance
from keras_ats.ops.wrong_classes import inherent_variance as inherent_variance

__all__ = [
    "KDParts",
    "are_class_ids",
    "asymmetric_log_softmax",
    "asymmetric_softmax",
    "asymmetric_temperature",
    "bernoulli_kl_divergence",
    "bernoulli_logits",
    "centered_log_probabilities",
    "correct_wrong_log_softmax",
    "cross_entropy",
    "decompose_kd",
    "derived_average",
    "derived_variance",
    "inherent_variance",
    "jensen_shannon_divergence",
    "kl_divergence",
    "label_distribution",
    "label_indicator",
    "pearson_correlation",
    "reverse_kl_divergence",
    "standardized_logits",
    "temperature_log_softmax",
    "temperature_softmax",
    "top_class_indicator",
    "weighted_log_softmax",
    "weights_of_positions",
    "wrong_class_log_softmax",
]
