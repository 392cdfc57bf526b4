"""Teachers: how a teacher's outputs come to be."""

from keras_ats.teachers.ensemble import Ensemble as Ensemble
from keras_ats.teachers.live import LiveTeacher as LiveTeacher
from keras_ats.teachers.teacher import Teacher as Teacher

__all__ = ["Ensemble", "LiveTeacher", "Teacher"]
