"""Metrics of what a teacher teaches and of how a student follows it."""

from keras_ats.metrics.derived_average import DerivedAverage as DerivedAverage
from keras_ats.metrics.derived_variance import DerivedVariance as DerivedVariance
from keras_ats.metrics.expected_calibration_error import (
    ExpectedCalibrationError as ExpectedCalibrationError,
)
from keras_ats.metrics.inherent_variance import InherentVariance as InherentVariance
from keras_ats.metrics.lesson_metric import LessonMetric as LessonMetric
from keras_ats.metrics.soft_target_entropy import SoftTargetEntropy as SoftTargetEntropy
from keras_ats.metrics.teacher_agreement import TeacherAgreement as TeacherAgreement
from keras_ats.metrics.teacher_divergence import TeacherDivergence as TeacherDivergence

__all__ = [
    "DerivedAverage",
    "DerivedVariance",
    "ExpectedCalibrationError",
    "InherentVariance",
    "LessonMetric",
    "SoftTargetEntropy",
    "TeacherAgreement",
    "TeacherDivergence",
]
