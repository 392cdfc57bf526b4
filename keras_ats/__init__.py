"""Knowledge distillation for Keras 3, built around Asymmetric Temperature Scaling.

distiller = keras_ats.Distiller(teacher, student)
distiller.compile(kd_loss=keras_ats.losses.AsymmetricTemperatureKD(4, 2))
distiller.fit(x, y)
distiller.student.save("student.keras")
"""

from keras_ats import adjustments as adjustments
from keras_ats import callbacks as callbacks
from keras_ats import data as data
from keras_ats import diagnostics as diagnostics
from keras_ats import features as features
from keras_ats import losses as losses
from keras_ats import metrics as metrics
from keras_ats import models as models
from keras_ats import ops as ops
from keras_ats import recipes as recipes
from keras_ats import teachers as teachers
from keras_ats import temperatures as temperatures
from keras_ats import views as views
from keras_ats.diagnostics import check as check
from keras_ats.diagnostics import diagnose as diagnose
from keras_ats.diagnostics import suggest_temperatures as suggest_temperatures
from keras_ats.distiller import Distiller as Distiller
from keras_ats.recipes import compare as compare
from keras_ats.recipes import distill_chain as distill_chain
from keras_ats.recipes import search_temperatures as search_temperatures
from keras_ats.recipes import self_distill as self_distill
from keras_ats.record import Lesson as Lesson
from keras_ats.record import Needs as Needs
from keras_ats.record import Outputs as Outputs
from keras_ats.record import Shapes as Shapes
from keras_ats.record import TopKLogits as TopKLogits
from keras_ats.teachers import cache_teacher as cache_teacher
from keras_ats.version import __version__ as __version__

__all__ = [
    "Distiller",
    "Lesson",
    "Needs",
    "Outputs",
    "Shapes",
    "TopKLogits",
    "__version__",
    "adjustments",
    "cache_teacher",
    "callbacks",
    "check",
    "compare",
    "data",
    "diagnose",
    "diagnostics",
    "distill_chain",
    "features",
    "losses",
    "metrics",
    "models",
    "ops",
    "recipes",
    "search_temperatures",
    "self_distill",
    "suggest_temperatures",
    "teachers",
    "temperatures",
    "views",
]
