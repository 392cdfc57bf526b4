"""Builders: the CIFAR networks of the distillation literature, one family per file."""
