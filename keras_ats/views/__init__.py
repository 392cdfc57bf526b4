"""Views: a model read at its logits and at inner layers, whatever it ends in."""

from keras_ats.views.logits_model import at_logits as at_logits
from keras_ats.views.view import View as View

__all__ = ["View", "at_logits"]
