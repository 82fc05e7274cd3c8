"""Checkpoints: written, verified, chosen and pruned; and the weights that a name stands for."""
