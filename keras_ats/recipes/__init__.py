"""Recipes: several distillations in a row, or side by side."""

from keras_ats.recipes.comparison import Comparison as Comparison
from keras_ats.recipes.comparison import compare as compare
from keras_ats.recipes.distill_chain import distill_chain as distill_chain
from keras_ats.recipes.self_distill import self_distill as self_distill
from keras_ats.recipes.temperature_search import TemperatureSearch as TemperatureSearch
from keras_ats.recipes.temperature_search import search_temperatures as search_temperatures

__all__ = [
    "Comparison",
    "TemperatureSearch",
    "compare",
    "distill_chain",
    "search_temperatures",
    "self_distill",
]
