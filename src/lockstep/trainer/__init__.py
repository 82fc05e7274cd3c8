"""Runs one start of a run, from its settings to its summary: builds its parts and trains."""

from lockstep.trainer.build import build_run, shared_dataset
from lockstep.trainer.open_sinks import open_sinks
from lockstep.trainer.scoring import evaluate_checkpoint
from lockstep.trainer.start import TrainingResult, run_training, train
from lockstep.trainer.startup_line import batch_sizes

__all__ = [
    "TrainingResult",
    "batch_sizes",
    "build_run",
    "evaluate_checkpoint",
    "open_sinks",
    "run_training",
    "shared_dataset",
    "train",
]
