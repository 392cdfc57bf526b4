"""Temperature rules: what temperature each class of each sample gets."""

from keras_ats.temperatures.asymmetric import Asymmetric as Asymmetric
from keras_ats.temperatures.constant import Constant as Constant
from keras_ats.temperatures.temperature import Temperature as Temperature

__all__ = ["Asymmetric", "Constant", "Temperature"]
