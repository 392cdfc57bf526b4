"""Callbacks for training with a teacher."""

from keras_ats.callbacks.backup import Backup as Backup
from keras_ats.callbacks.gradient_reversal_schedule import (
    GradientReversalSchedule as GradientReversalSchedule,
)
from keras_ats.callbacks.kd_weight_warmup import KDWeightWarmup as KDWeightWarmup
from keras_ats.callbacks.student_checkpoint import StudentCheckpoint as StudentCheckpoint
from keras_ats.callbacks.teacher_checkpoints import TeacherCheckpoints as TeacherCheckpoints

__all__ = [
    "Backup",
    "GradientReversalSchedule",
    "KDWeightWarmup",
    "StudentCheckpoint",
    "TeacherCheckpoints",
]
