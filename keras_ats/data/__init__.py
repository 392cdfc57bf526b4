"""Published data sets and your own arrays as `tf.data` pipelines that resume exactly."""

from keras_ats.data.loading import Splits as Splits
from keras_ats.data.loading import load as load
from keras_ats.data.samples import Samples as Samples
from keras_ats.data.texts import Texts as Texts

__all__ = ["Samples", "Splits", "Texts", "load"]
