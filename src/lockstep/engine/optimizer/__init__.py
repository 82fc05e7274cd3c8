"""The update: optimizers, parameter groups, learning-rate schedule, averaged weights."""
