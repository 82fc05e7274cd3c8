"""Scores a checkpoint on a test set."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.config import Config
from lockstep.data import chunks_of, reported_deaths, restored_generators
from lockstep.engine import evaluate as score
from lockstep.errors import require
from lockstep.launch import Launch, read_launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process.process_state import restored_process_state
from lockstep.launch.process_group import join_ranks, launch_of_group
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.runs.checkpoints.weights import read_weights, split_name
from lockstep.task import Evaluation, Task, confusion
from lockstep.trainer.build.build import prepare_forward
from lockstep.trainer.parts.find_task import find_task, settings_of_run
from lockstep.trainer.parts.make_model import make_model, model_setting, set_weights
from lockstep.trainer.parts.task_data import first_on_each_node, read_data


def evaluate(task: Task | str | None, folder: Path | str, *, data_root: Path | str = "") -> dict[str, Any]:
    """Scores weights of a run on its test data, as `lockstep evaluate` does.

    Under a launcher, call it in every process.

    Args:
        task: of the run; None: the one that its settings name.
        folder: the run folder, for the weights of its newest checkpoint; or 'FOLDER:best', 'FOLDER:ema' or
            'FOLDER:best-ema'.
        data_root: where the data of the built-in task is; by default in 'data', whatever the run says.

    Returns:
        The values by name: 'test_loss', 'test_' and the name of each metric, and facts such as the step.

    Raises:
        ConfigError: it is not a folder of a run of this task, or it has no checkpoint or no test data.
        RunStopped: a value is not finite.
    """
    path, _ = split_name(str(folder), "folder")
    config = settings_of_run(path, task, data_root=data_root)
    given = task if isinstance(task, Task) else None
    with restored_process_state(), restored_generators(torch.device("cpu")):
        return evaluate_checkpoint(str(folder), config, launch_of_group(read_launch()), given)


def evaluate_checkpoint(
    word: str, config: Config, launch: Launch, task: Task | None = None
) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a task.

    Args:
        word: what `read_weights` takes.
        config: the settings of the run, with the data to score on.
        launch: what the launcher started.
        task: of the run; None: as the config says.

    Raises:
        ConfigError: there is no complete checkpoint or no data, or the model does not fit the weights.
        RunStopped: a value is not finite.
    """
    precision = resolve_precision(config, launch).precision
    with join_ranks(launch, precision, config.run.timeout_seconds) as ranks:
        weights = ranks.on_main(lambda: read_weights(word, "CHECKPOINT"))
        folder = weights.run
        config, task = first_on_each_node(ranks, "the task", lambda: find_task(config, task, folder))
        require(task.test is not None, "task.test", None, "is missing, so there is nothing to score")
        model = model_with_weights(config, task, ranks, weights.tensors)
        _, test = read_data(task, config.data, config.seed, ranks)
        assert test is not None
        step = weights.checkpoint.step if weights.checkpoint else 0
        with ExitStack() as closing, reported_deaths():
            prepare_forward(model, ranks, closing)
            chunks = chunks_of(test, config.batch.eval_size, ranks.rank, ranks.world_size, closing)
            result = score(model, task, chunks, ranks, step=step, seed=config.seed)
        return {
            "checkpoint_step": result.step,
            "data": task.name,
            **summary_of(task, result),
            "weights_sha256": weights_sha256(weights.tensors),
        }


def model_with_weights(config: Config, task: Task, ranks: Ranks, weights: dict[str, Tensor]) -> nn.Module:
    """The task's model on the device, with weights of its run. All ranks must call it.

    Raises:
        ConfigError: on every rank, if they do not fit.
    """
    setting = model_setting(config, task)
    model, _ = make_model(task, setting, config.seed, ranks)
    set_weights(setting, model, weights)
    return model


def summary_of(task: Task, result: Evaluation) -> dict[str, Any]:
    """The results of an evaluation as JSON values."""
    summary: dict[str, Any] = {**result.record(), f"{result.split}_samples": result.num_samples}
    if task.classes:
        summary["confusion"] = confusion(result, len(task.classes)).tolist()
    return summary
