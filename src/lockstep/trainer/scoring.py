"""Scores a checkpoint on a test set, and loads the model of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from lockstep.config import Config
from lockstep.engine import evaluate
from lockstep.errors import refuse, require
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks import Ranks
from lockstep.runs import SETTINGS_FILE
from lockstep.runs.checkpoint import Checkpoint, weights_sha256
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint, load_named_checkpoint
from lockstep.task import Evaluation, Task, confusion
from lockstep.trainer.find_task import find_task
from lockstep.trainer.parts import make_model, read_data


def evaluate_checkpoint(
    path: Path, config: Config, launch: Launch, task: Task | None = None
) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a task.

    Args:
        path: a run folder (scores its newest complete checkpoint) or one checkpoint in it.
        config: the settings of the run, with the data to score on.
        launch: what the launcher started.
        task: of the run; None: as the config says.

    Raises:
        ConfigError: there is no complete checkpoint or no data, or the model does not fit the weights.
        RunStopped: a value is not finite.
    """
    with join_ranks(launch, resolve_precision(config, launch).precision) as ranks:
        checkpoint = named_checkpoint(path, ranks)
        config, task = ranks.on_all(lambda: find_task(config, task))
        require(task.test is not None, "task.test", None, "is missing, so there is nothing to score")
        model = model_with_weights(config, task, ranks, checkpoint)
        _, test = read_data(config, task, ranks)
        assert test is not None
        ranks.accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; no gradients to reduce
        result = evaluate(
            model,
            task,
            test,
            ranks,
            step=checkpoint.step,
            seed=config.seed,
            chunk_size=config.batch.eval_size,
        )
        return {
            "checkpoint_step": result.step,
            "data": task.name,
            **summary_of(task, result),
            "weights_sha256": weights_sha256(checkpoint.weights),
        }


def named_checkpoint(path: Path, ranks: Ranks) -> Checkpoint:
    """The newest checkpoint of a run folder, or the checkpoint that a path names. All ranks must call it.

    Raises:
        ConfigError: on every rank, if there is none, or it is damaged.
    """
    if not (path / SETTINGS_FILE).exists():
        return ranks.on_main(lambda: load_named_checkpoint(path))
    checkpoint = broadcast_newest_checkpoint(path, ranks)
    if checkpoint is None:
        rule = "has no complete checkpoint yet; wait for its first, or name another run"
        raise refuse("CHECKPOINT", str(path), rule)
    return checkpoint


def model_with_weights(config: Config, task: Task, ranks: Ranks, checkpoint: Checkpoint) -> nn.Module:
    """The task's model with the weights of a checkpoint.

    Raises:
        ConfigError: on every rank, if they do not fit.
    """
    model, _ = make_model(config, task, ranks)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    fits = shapes == {name: value.shape for name, value in checkpoint.weights.items()}
    field, value = ("task.name", task.name) if config.task.name else ("model.name", config.model.name)
    rule = f"does not fit the weights of this checkpoint; leave --{field} out"
    require(fits, field, value, rule)
    model.load_state_dict(checkpoint.weights, strict=True)
    return model


def summary_of(task: Task, result: Evaluation) -> dict[str, Any]:
    """The results of an evaluation as JSON values."""
    summary: dict[str, Any] = {**result.record(), "test_samples": result.num_samples}
    if task.classes:
        summary["confusion"] = confusion(result, len(task.classes)).tolist()
    return summary
