"""Weights & Biases: the only package that imports wandb, and not before it is used.

These take time to load and are imported by their own names:
artifact_download, upload, wandb_run.
"""

from lockstep.tracking.mode import ask_server, has_key, server_url, wandb_mode

__all__ = ["ask_server", "has_key", "server_url", "wandb_mode"]
