"""Teachers: how teacher logits come to be."""

from keras_ats.teachers.live import LiveTeacher as LiveTeacher

__all__ = ["LiveTeacher"]
