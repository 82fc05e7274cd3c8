"""Runs under torchrun: trains users' models for a few steps, all or those named, and prints their digests."""

import json
import sys

import torch.distributed as dist

from lockstep.config import BatchConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.engine import take_step
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import fresh_ranks, small_config, small_run

MODELS = (
    "OddSizes",
    "Transformer",
    "SpectralNorm",
    "Lstm",
    "Embedding",
    "MixedDtypes",
    "NumpyNoise",
    "Double",
    "Resnet",
)


def fingerprint(name: str, reduction: str) -> str:
    """Four steps; the third ends an epoch, with a short micro-batch and empty slots."""
    config = small_config(
        model=ModelConfig(name=f"any_models:{name}"),
        data=DataConfig(name="synthetic", num_train=32 + 32 + 10),
        batch=BatchConfig(global_size=32, micro_size=8),
        train=TrainConfig(steps=4),
        optimizer=OptimizerConfig(
            name="adamw", lr=0.01, weight_decay=0.1, max_grad_norm=0.5, sharded="sharded" in sys.argv
        ),
        reduction=reduction,
    )
    run, _ = small_run(config, fresh_ranks())
    for _ in range(4):
        take_step(run)
    return weights_sha256(run.model.state_dict())


if "gloo" in sys.argv:
    dist.init_process_group("gloo")  # so that several processes can share one GPU
names = [word for word in sys.argv[1:] if word in MODELS] or MODELS
prints = {name: fingerprint(name, sys.argv[1]) for name in names}
if not dist.is_initialized() or dist.get_rank() == 0:
    print(json.dumps(prints))
if dist.is_initialized():
    dist.destroy_process_group()
