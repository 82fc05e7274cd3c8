"""One start of a run, from its settings to its summary: assembles the parts and trains."""

from lockstep.trainer.build import build_run, shared_dataset
from lockstep.trainer.scoring import evaluate_checkpoint
from lockstep.trainer.start import TrainingResult, run_training, train

__all__ = [
    "TrainingResult",
    "build_run",
    "evaluate_checkpoint",
    "run_training",
    "shared_dataset",
    "train",
]
