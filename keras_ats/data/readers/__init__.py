"""Readers: published data sets, from what is on disk to arrays; `registry` lists them."""
