"""Teachers: how teacher logits come to be."""

from keras_ats.teachers.ensemble import Ensemble as Ensemble
from keras_ats.teachers.live import LiveTeacher as LiveTeacher

__all__ = ["Ensemble", "LiveTeacher"]
