"""Scores a checkpoint on a test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.config import Config
from lockstep.engine import evaluate
from lockstep.errors import refuse, require
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.runs import SETTINGS_FILE
from lockstep.runs.checkpoint import weights_sha256
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint, load_named_checkpoint
from lockstep.task import build_criterion, build_model
from lockstep.trainer.build import shared_dataset


def evaluate_checkpoint(path: Path, config: Config, launch: Launch) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a config.

    Args:
        path: a run folder (scores its newest complete checkpoint) or one checkpoint in it.
        config: the settings of the run, with the data to score on.
        launch: what the launcher started.

    Raises:
        ConfigError: there is no complete checkpoint or no data, or the model does not fit the weights.
    """
    with join_ranks(launch, resolve_precision(config, launch).precision) as ranks:
        is_run = (path / SETTINGS_FILE).exists()
        checkpoint = (
            broadcast_newest_checkpoint(path, ranks)
            if is_run
            else ranks.on_main(lambda: load_named_checkpoint(path))
        )
        if checkpoint is None:
            rule = "has no complete checkpoint yet; wait for its first, or name another run"
            raise refuse("CHECKPOINT", str(path), rule)
        store = shared_dataset(config, ranks).test.to(ranks.device)
        model = ranks.on_all(lambda: build_model(config.model, config.seed))
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        fits = shapes == {name: value.shape for name, value in checkpoint.weights.items()}
        rule = "does not fit the weights of this checkpoint; leave --model.name out"
        require(fits, "model.name", config.model.name, rule)
        model.load_state_dict(checkpoint.weights, strict=True)
        ranks.accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; no gradients to reduce
        result = evaluate(model, build_criterion(config.loss), store, ranks, checkpoint.step, config.seed)
        return {
            "checkpoint_step": result.step,
            "data": config.data.name,
            **result.summary(),
            "weights_sha256": weights_sha256(checkpoint.weights),
        }
