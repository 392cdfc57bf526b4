"""The kinds of data that a cache can be made of."""
