"""The model that is compiled and fitted."""

from keras_ats.distiller.distiller import Distiller as Distiller

__all__ = ["Distiller"]
