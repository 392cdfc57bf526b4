"""Callbacks for training with a teacher."""

from keras_ats.callbacks.backup import Backup as Backup
from keras_ats.callbacks.distillation_monitor import (
    DistillationMonitor as DistillationMonitor,
)
from keras_ats.callbacks.gradient_reversal_schedule import (
    GradientReversalSchedule as GradientReversalSchedule,
)
from keras_ats.callbacks.kd_weight_schedule import KDWeightSchedule as KDWeightSchedule
from keras_ats.callbacks.kd_weight_warmup import KDWeightWarmup as KDWeightWarmup
from keras_ats.callbacks.ramp import Ramp as Ramp
from keras_ats.callbacks.schedule import Schedule as Schedule
from keras_ats.callbacks.student_checkpoint import StudentCheckpoint as StudentCheckpoint
from keras_ats.callbacks.teacher_checkpoints import TeacherCheckpoints as TeacherCheckpoints
from keras_ats.callbacks.temperature_schedule import TemperatureSchedule as TemperatureSchedule

__all__ = [
    "Backup",
    "DistillationMonitor",
    "GradientReversalSchedule",
    "KDWeightSchedule",
    "KDWeightWarmup",
    "Ramp",
    "Schedule",
    "StudentCheckpoint",
    "TeacherCheckpoints",
    "TemperatureSchedule",
]
