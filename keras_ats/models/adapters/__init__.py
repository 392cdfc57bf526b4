"""Adapters: backbones of other libraries made ready, with a head or another stem."""
