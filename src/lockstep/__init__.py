"""Lockstep: one training loop, any number of GPUs, the same run."""

__version__ = "0.1.0"
