"""Teachers: how a teacher's outputs come to be."""

from keras_ats.teachers.cache.cached_teacher import CachedTeacher as CachedTeacher
from keras_ats.teachers.cache.estimate import CacheEstimate as CacheEstimate
from keras_ats.teachers.cache.estimate import estimate_cache as estimate_cache
from keras_ats.teachers.cache.writer import cache_teacher as cache_teacher
from keras_ats.teachers.ensemble import Ensemble as Ensemble
from keras_ats.teachers.live import LiveTeacher as LiveTeacher
from keras_ats.teachers.teacher import Teacher as Teacher

__all__ = [
    "CacheEstimate",
    "CachedTeacher",
    "Ensemble",
    "LiveTeacher",
    "Teacher",
    "estimate_cache",
]
