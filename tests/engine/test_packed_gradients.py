"""The exact reduction as it works on CUDA, where it packs each micro-batch's gradient, run on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockstep.config import BatchConfig, Config, ModelConfig, OptimizerConfig, ReductionName
from lockstep.engine import Reduction, take_step
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import Task
from runs import built_run, small_config
from tasks import sentences


def digest_after(
    task: Task | None, model: str, micro_size: int, *, packs: bool, reduction: ReductionName = "exact"
) -> str:
    """Of the weights after an epoch and a step, the short last batch of an epoch included."""
    optimizer = OptimizerConfig(max_grad_norm=0.5)
    config = small_config(batch=BatchConfig(global_size=64, micro_size=micro_size), optimizer=optimizer)
    if task is None:
        config = replace(config, model=ModelConfig(name=model))
    else:
        config = Config(precision="no", batch=config.batch, optimizer=optimizer)
    run = built_run(config, task=task)
    run.reduction = Reduction(run.reduction.model, run.traits, 1, reduction, packs=packs)
    for _ in range(run.plan.steps_per_epoch + 1):
        take_step(run)
    return weights_sha256(run.model.state_dict())


@pytest.mark.parametrize(
    ("model", "micro_size"), [("mlp", 8), ("mlp", 64), ("any_models:Resnet", 16), ("sentences", 16)]
)
def test_a_packed_gradient_has_the_bits_of_one_that_autograd_adds(model, micro_size):
    """For averaged buffers (Resnet) and a loss that counts (sentences) too."""
    task = sentences() if model == "sentences" else None
    digests = {digest_after(task, model, micro_size, packs=packs) for packs in (False, True)}
    assert len(digests) == 1


def test_a_single_rank_adds_packed_gradients_alike_for_both_reductions():
    assert len({digest_after(None, "mlp", 8, packs=True, reduction=each) for each in ("exact", "fast")}) == 1
