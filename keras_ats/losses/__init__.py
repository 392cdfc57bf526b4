"""Distillation losses: `loss(student_logits, teacher_logits, labels, sample_weight, mask)`."""

from keras_ats.losses.asymmetric_temperature_kd import (
    AsymmetricTemperatureKD as AsymmetricTemperatureKD,
)
from keras_ats.losses.kd_loss import KDLoss as KDLoss
from keras_ats.losses.label_crossentropy import LabelCrossentropy as LabelCrossentropy
from keras_ats.losses.soft_target_kd import SoftTargetKD as SoftTargetKD
from keras_ats.losses.temperature_kd import TemperatureKD as TemperatureKD

__all__ = [
    "AsymmetricTemperatureKD",
    "KDLoss",
    "LabelCrossentropy",
    "SoftTargetKD",
    "TemperatureKD",
]
