"""Distillation losses: `loss(student_logits, teacher_logits, labels=...)`, and their bases."""

from keras_ats.losses.asymmetric_temperature_kd import (
    AsymmetricTemperatureKD as AsymmetricTemperatureKD,
)
from keras_ats.losses.bernoulli_kd import BernoulliKD as BernoulliKD
from keras_ats.losses.curriculum_temperature_kd import (
    CurriculumTemperatureKD as CurriculumTemperatureKD,
)
from keras_ats.losses.decoupled_kd import DecoupledKD as DecoupledKD
from keras_ats.losses.dist import DIST as DIST
from keras_ats.losses.distillation_loss import DistillationLoss as DistillationLoss
from keras_ats.losses.dynamic_temperature_kd import DynamicTemperatureKD as DynamicTemperatureKD
from keras_ats.losses.gaussian_kd import GaussianKD as GaussianKD
from keras_ats.losses.hard_label_kd import HardLabelKD as HardLabelKD
from keras_ats.losses.jensen_shannon_kd import JensenShannonKD as JensenShannonKD
from keras_ats.losses.kd_loss import KDLoss as KDLoss
from keras_ats.losses.label_crossentropy import LabelCrossentropy as LabelCrossentropy
from keras_ats.losses.label_smoothing import LabelSmoothing as LabelSmoothing
from keras_ats.losses.logit_mse import LogitMSE as LogitMSE
from keras_ats.losses.lookup import get as get
from keras_ats.losses.normalized_kd import NormalizedKD as NormalizedKD
from keras_ats.losses.refined_logit_kd import RefinedLogitKD as RefinedLogitKD
from keras_ats.losses.regression_kd import RegressionKD as RegressionKD
from keras_ats.losses.relation_kd import RelationKD as RelationKD
from keras_ats.losses.scale_decoupled_kd import ScaleDecoupledKD as ScaleDecoupledKD
from keras_ats.losses.soft_target_kd import SoftTargetKD as SoftTargetKD
from keras_ats.losses.temperature_kd import TemperatureKD as TemperatureKD
from keras_ats.losses.transformed_teacher_kd import TransformedTeacherKD as TransformedTeacherKD

__all__ = [
    "DIST",
    "AsymmetricTemperatureKD",
    "BernoulliKD",
    "CurriculumTemperatureKD",
    "DecoupledKD",
    "DistillationLoss",
    "DynamicTemperatureKD",
    "GaussianKD",
    "HardLabelKD",
    "JensenShannonKD",
    "KDLoss",
    "LabelCrossentropy",
    "LabelSmoothing",
    "LogitMSE",
    "NormalizedKD",
    "RefinedLogitKD",
    "RegressionKD",
    "RelationKD",
    "ScaleDecoupledKD",
    "SoftTargetKD",
    "TemperatureKD",
    "TransformedTeacherKD",
    "get",
]
