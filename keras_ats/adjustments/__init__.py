"""Adjustments: what the teacher should have said, given the label."""

from keras_ats.adjustments.adjustment import Adjustment as Adjustment

__all__ = ["Adjustment"]
