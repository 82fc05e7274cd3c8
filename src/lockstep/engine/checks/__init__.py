"""Checks of a run in progress: finite numbers, equal weights, repeatability, the order of a step."""
