"""Runs under torchrun: trains small runs in every precision and prints what no topology may change.

With the argument 'gloo', several processes can share one GPU, which NCCL does not allow. With 'nodes=N' the
processes take themselves for those of N nodes. With 'sharded', the optimizer is. Names of runs choose these.
"""

import hashlib
import json
import os
import sys
from dataclasses import replace

import torch
import torch.distributed as dist

from lockstep.config import (
    AugmentConfig,
    BatchConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from lockstep.engine import loop, train
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from processes import without_times
from runs import fresh_ranks, small_config, small_run

loop.save_checkpoint_of = lambda run: None

AUGMENT = AugmentConfig(shift_pixels=2, rotate_degrees=5, cutout_pixels=4)


class ListSink:
    """A sink that keeps the records."""

    def __init__(self) -> None:
        self.records: list[dict] = []

    def log(self, record: dict) -> None:
        self.records.append(without_times(record))

    def close(self, status: str, reason: str = "") -> None:
        pass


def fingerprint(
    model: str,
    precision: str,
    optimizer: OptimizerConfig,
    dropout: float = 0.0,
    num_epochs: int = 2,
    micro_size: int = 8,
) -> dict[str, object]:
    """Epochs of two full steps and a short one, every step logged."""
    config = small_config(
        data=DataConfig(name="synthetic", num_train=150),
        model=ModelConfig(name=model, dropout=dropout),
        augment=AUGMENT if dropout else AugmentConfig(),
        precision=precision,
        optimizer=replace(optimizer, sharded="sharded" in sys.argv),
        batch=BatchConfig(global_size=64, micro_size=micro_size),
        train=TrainConfig(epochs=num_epochs, log_every=1),
    )
    run, _ = small_run(replace(config, reduction="exact"), replace(fresh_ranks(precision), nodes=nodes))
    sink = ListSink()
    run.sinks = [sink]
    train(run)
    text = json.dumps(sink.records)
    return {
        "weights": weights_sha256(run.model.state_dict()),
        "records": hashlib.sha256(text.encode()).hexdigest(),
        "first": sink.records[:1],  # the main rank's; the others have no sinks
    }


nodes = None
for num_nodes in [int(word.removeprefix("nodes=")) for word in sys.argv[1:] if word.startswith("nodes=")]:
    per_node = int(os.environ["WORLD_SIZE"]) // num_nodes
    os.environ["LOCAL_WORLD_SIZE"] = str(per_node)
    os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % per_node)
    nodes = fresh_ranks().nodes  # the ranks that come later find the group that these have made
    assert (nodes is None) == (num_nodes == 1)
if "gloo" in sys.argv:
    dist.init_process_group("gloo")  # Accelerate uses an existing group
assert torch.get_num_threads() == 1
clipped = OptimizerConfig(max_grad_norm=0.5)
runs = {
    "cnn fp32 clipped": ("cnn", "no", clipped),
    "cnn bf16": ("cnn", "bf16", OptimizerConfig(), 0.0, 1),  # slow on a CPU
    "cnn-gru fp32 groups": ("cnn-gru", "no", OptimizerConfig(groups={"gru": 0.003})),
    "cnn augment dropout": ("cnn", "no", OptimizerConfig(), 0.2),
    "mlp sgd": ("mlp", "no", OptimizerConfig(name="sgd", lr=0.1)),
}
if torch.cuda.is_available():
    runs["cnn fp16"] = ("cnn", "fp16", OptimizerConfig())
    # Where a slice of one label begins in memory depends on the rank, and may decide a kernel.
    runs["mlp micro-batches of 1"] = ("mlp", "no", OptimizerConfig(), 0.0, 1, 1)
names = [name for name in runs if name in sys.argv] or runs
fingerprints = {name: fingerprint(*runs[name]) for name in names}
if not dist.is_initialized() or dist.get_rank() == 0:
    print(json.dumps(fingerprints))
if dist.is_initialized():
    dist.destroy_process_group()
