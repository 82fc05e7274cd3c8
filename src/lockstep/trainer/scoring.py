"""Scores a checkpoint on a test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.config import Config
from lockstep.engine import evaluate
from lockstep.errors import ConfigError, require
from lockstep.launch import Launch
from lockstep.launch.precision import resolve_precision
from lockstep.launch.process_group import join_ranks
from lockstep.models import build_criterion, build_model
from lockstep.runs import SETTINGS_FILE
from lockstep.runs.checkpoint import weights_sha256
from lockstep.runs.checkpoint_folder import broadcast_newest_checkpoint, load_named_checkpoint
from lockstep.trainer.build import shared_dataset


def evaluate_checkpoint(path: Path, config: Config, launch: Launch) -> dict[str, Any]:
    """Scores a checkpoint on the test set of a config.

    Args:
        path: a run folder, for its newest whole checkpoint, or one checkpoint in it.
        config: of the run, with the data it is to be scored on.
        launch: what the launcher asked for.

    Raises:
        ConfigError: there is no whole checkpoint, or no data.
    """
    with join_ranks(launch, resolve_precision(config, launch).precision) as ranks:
        is_run = (path / SETTINGS_FILE).exists()
        found = (
            broadcast_newest_checkpoint(path, ranks)
            if is_run
            else ranks.on_main(lambda: load_named_checkpoint(path))
        )
        if found is None:
            raise ConfigError(f"CHECKPOINT = {str(path)!r}: holds no whole checkpoint yet")
        store = shared_dataset(config, ranks).test.to(ranks.device)
        model = ranks.on_all(lambda: build_model(config.model, config.seed))
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        fits = shapes == {name: value.shape for name, value in found.weights.items()}
        require(fits, "model.name", config.model.name, "is not the network of these weights; leave it out")
        model.load_state_dict(found.weights, strict=True)
        ranks.accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; no gradients to reduce
        result = evaluate(model, build_criterion(config.loss), store, ranks, found.step)
        return {
            "checkpoint_step": result.step,
            "data": config.data.name,
            **result.summary(),
            "weights_sha256": weights_sha256(found.weights),
        }
