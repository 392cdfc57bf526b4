"""Callbacks for training with a teacher."""

from keras_ats.callbacks.gradient_reversal_schedule import (
    GradientReversalSchedule as GradientReversalSchedule,
)
from keras_ats.callbacks.kd_weight_warmup import KDWeightWarmup as KDWeightWarmup
from keras_ats.callbacks.teacher_checkpoints import TeacherCheckpoints as TeacherCheckpoints

__all__ = ["GradientReversalSchedule", "KDWeightWarmup", "TeacherCheckpoints"]
