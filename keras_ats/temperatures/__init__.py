"""Temperature rules: what temperature each class of each sample gets."""

from keras_ats.temperatures.asymmetric import Asymmetric as Asymmetric
from keras_ats.temperatures.batch import batch_mean as batch_mean
from keras_ats.temperatures.confidence_weighted import ConfidenceWeighted as ConfidenceWeighted
from keras_ats.temperatures.constant import Constant as Constant
from keras_ats.temperatures.focal_weighted import FocalWeighted as FocalWeighted
from keras_ats.temperatures.learned import Learned as Learned
from keras_ats.temperatures.per_sample import PerSample as PerSample
from keras_ats.temperatures.product import Product as Product
from keras_ats.temperatures.standard_deviation import StandardDeviation as StandardDeviation
from keras_ats.temperatures.temperature import Temperature as Temperature

__all__ = [
    "Asymmetric",
    "ConfidenceWeighted",
    "Constant",
    "FocalWeighted",
    "Learned",
    "PerSample",
    "Product",
    "StandardDeviation",
    "Temperature",
    "batch_mean",
]
