"""The gradient sum over micro-batches and ranks, and what travels with it."""
