"""Recipes: several distillations in a row."""

from keras_ats.recipes.distill_chain import distill_chain as distill_chain
from keras_ats.recipes.self_distill import self_distill as self_distill

__all__ = ["distill_chain", "self_distill"]
