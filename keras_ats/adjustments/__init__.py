"""Adjustments: what the teacher should have said, given the label."""

from keras_ats.adjustments.adjustment import Adjustment as Adjustment
from keras_ats.adjustments.chain import Chain as Chain
from keras_ats.adjustments.smooth import Smooth as Smooth
from keras_ats.adjustments.standardize import Standardize as Standardize
from keras_ats.adjustments.swap import Swap as Swap

__all__ = ["Adjustment", "Chain", "Smooth", "Standardize", "Swap"]
