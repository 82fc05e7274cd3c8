"""Lockstep: one training loop, any number of GPUs, the same run.

These names are what a program may rely on. Each is loaded when it is first used, so `import lockstep` needs
no torch and takes milliseconds (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockstep.commands import run_script
    from lockstep.config import (
        AugmentConfig,
        BatchConfig,
        Config,
        DataConfig,
        LossConfig,
        ModelConfig,
        OptimizerConfig,
        RunConfig,
        ScheduleConfig,
        TaskConfig,
        TrackingConfig,
        TrainConfig,
        parse_config,
    )
    from lockstep.data import MicroBatch
    from lockstep.engine import Observer, Run, StepResult
    from lockstep.errors import ConfigError, DataError, Interrupted, RunStopped
    from lockstep.inference import Prediction, Predictor, load
    from lockstep.inspect import Replay, replay
    from lockstep.runs import Record, Sink, Status
    from lockstep.task import Task, accuracy
    from lockstep.trainer import TrainingResult, evaluate, train

__version__ = "0.1.0"

_PACKAGES = {
    "commands": ("run_script",),
    "config": (
        *("AugmentConfig", "BatchConfig", "Config", "DataConfig", "LossConfig", "ModelConfig"),
        *("OptimizerConfig", "RunConfig", "ScheduleConfig", "TaskConfig", "TrackingConfig", "TrainConfig"),
        "parse_config",
    ),
    "data": ("MicroBatch",),
    "engine": ("Observer", "Run", "StepResult"),
    "errors": ("ConfigError", "DataError", "Interrupted", "RunStopped"),
    "inference": ("Prediction", "Predictor", "load"),
    "runs": ("Record", "Sink", "Status"),
    "inspect": ("Replay", "replay"),
    "task": ("Task", "accuracy"),
    "trainer": ("TrainingResult", "evaluate", "train"),
}
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DataError",
    "Interrupted",
    "LossConfig",
    "MicroBatch",
    "ModelConfig",
    "Observer",
    "OptimizerConfig",
    "Prediction",
    "Predictor",
    "Record",
    "Replay",
    "Run",
    "RunConfig",
    "RunStopped",
    "ScheduleConfig",
    "Sink",
    "Status",
    "StepResult",
    "Task",
    "TaskConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainingResult",
    "accuracy",
    "evaluate",
    "load",
    "parse_config",
    "replay",
    "run_script",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PACKAGE_OF:
        raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
    value = getattr(import_module(f"lockstep.{_PACKAGE_OF[name]}"), name)
    globals()[name] = value  # so that the next use skips this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
