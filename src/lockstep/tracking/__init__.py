"""Weights & Biases (runs, artifacts, `lockstep sync`) and TensorBoard. Only this package imports wandb.

These modules take time to load, so import them by their own names:
artifacts.artifact_download, sync_run, tensorboard_sink, upload.wandb_run.
"""

from lockstep.tracking.sync_command import sync_command
from lockstep.tracking.wandb_login import ask_server, has_key, server_url
from lockstep.tracking.wandb_mode import wandb_mode

__all__ = ["ask_server", "has_key", "server_url", "sync_command", "wandb_mode"]
