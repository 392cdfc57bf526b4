"""The parts of examples/cifar.py: options, training, run folders, report, export."""
