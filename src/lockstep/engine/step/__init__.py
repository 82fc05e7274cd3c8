"""The parts of a step: a micro-batch, CUDA graphs, observers, deterministic kernels, profile."""
