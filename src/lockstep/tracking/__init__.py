"""Weights & Biases: only this package imports wandb, and not before it is used."""

from lockstep.tracking.mode import wandb_mode
from lockstep.tracking.wandb_run import WandbRun

__all__ = ["WandbRun", "wandb_mode"]
