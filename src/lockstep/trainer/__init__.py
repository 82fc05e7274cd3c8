"""Runs one start of a run, from its settings to its summary: builds its parts and trains."""

from lockstep.trainer.build.build import build_run, prepare_forward
from lockstep.trainer.build.micro_size import fit_micro_size
from lockstep.trainer.evaluate_checkpoint import evaluate, evaluate_checkpoint, model_with_weights
from lockstep.trainer.parts.find_task import find_task, settings_of_run, with_task
from lockstep.trainer.parts.make_model import ModelSetting, model_of, model_setting, set_weights
from lockstep.trainer.parts.parts import Parts, check_same_data, make_parts
from lockstep.trainer.parts.task_data import first_on_each_node, task_samples
from lockstep.trainer.start import TrainingResult, run_training, train
from lockstep.trainer.startup.init_weights import take_initial_weights
from lockstep.trainer.startup.open_sinks import open_sinks
from lockstep.trainer.startup.startup_line import batch_sizes

__all__ = [
    "ModelSetting",
    "Parts",
    "TrainingResult",
    "batch_sizes",
    "build_run",
    "check_same_data",
    "evaluate",
    "evaluate_checkpoint",
    "find_task",
    "first_on_each_node",
    "fit_micro_size",
    "make_parts",
    "model_of",
    "model_setting",
    "model_with_weights",
    "open_sinks",
    "prepare_forward",
    "run_training",
    "set_weights",
    "settings_of_run",
    "take_initial_weights",
    "task_samples",
    "train",
    "with_task",
]
