"""A cache: what a teacher said of samples, in files."""
