"""Evaluation over all ranks, the scores of a step, and which checkpoint is the best."""
