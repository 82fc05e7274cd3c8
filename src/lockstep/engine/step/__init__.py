"""The parts of a step: a micro-batch, CUDA graphs, observers, profile, and how a stop is agreed."""
