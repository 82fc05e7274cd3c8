"""A run is built whole, or what was made for it is taken back."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import TensorDataset

import lockstep
from lockstep.config import BatchConfig, Config, DataConfig, ModelConfig, TrainConfig
from lockstep.data.reading.workers import Workers
from lockstep.errors import ConfigError
from lockstep.trainer import build_run, find_task, fit_micro_size, make_parts
from reading_tasks import WithNoise, noise
from runs import built_run, fresh_ranks, small_config


@pytest.mark.parametrize("train", [TensorDataset(torch.randn(64, 4), torch.randn(64, 1)), WithNoise()])
def test_a_build_that_is_refused_leaves_model_and_processes_as_they_were(train):
    width = train[0][0].numel()
    model = nn.Sequential(nn.Flatten(), nn.Linear(width, 1))
    task = lockstep.Task(
        name="line", model=model, train=train, loss=lambda outputs, _: outputs.square().mean()
    )
    config = small_config(
        precision="bf16",  # so that Accelerate gives the model another forward
        train=TrainConfig(epochs=1, patience=2),
        data=DataConfig(num_workers=1),
        model=ModelConfig(),
    )
    before = multiprocessing.active_children()
    with pytest.raises(ConfigError, match=r"train\.patience = 2: needs a validation set"):
        built_run(config, task=task)
    assert "forward" not in vars(model)
    assert multiprocessing.active_children() == before
    run = built_run(replace(config, train=TrainConfig(epochs=1)), task=task)
    assert "forward" in vars(model)
    run.closing.close()
    assert "forward" not in vars(model)
    assert multiprocessing.active_children() == before


def test_a_model_computes_in_the_precision_of_the_run_after_the_size_of_a_micro_batch_was_tried():
    config = small_config(precision="bf16", batch=BatchConfig(global_size=64, micro_size="auto"))
    ranks = fresh_ranks(config.precision)
    config, task = find_task(config, None)
    parts = make_parts(config, task, ranks)
    run = build_run(fit_micro_size(config, ranks, parts, Path("unused")), ranks, parts)
    (batch, *_) = next(run.windows)
    inner = []
    run.model.linear1.register_forward_hook(lambda *_: inner.append(_[2].dtype))
    run.reduction.model(batch.inputs)
    assert inner == [torch.bfloat16]


class Collectives(TorchDispatchMode):
    """Adds each collective to a list of events."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            self.events.append("collective")
        return func(*args, **(kwargs or {}))


def test_workers_are_forked_before_the_devices_of_the_ranks_are_connected(monkeypatch):
    """A fork may lose the memory that NCCL has registered with InfiniBand: ibv_fork_init(3)."""
    events = []
    start = Workers.__init__

    def start_and_tell(self, *args, **kwargs):
        events.append("fork")
        start(self, *args, **kwargs)

    monkeypatch.setattr(Workers, "__init__", start_and_tell)
    monkeypatch.setattr(
        "lockstep.trainer.build.build.connect_gpus",
        lambda _: dist.all_reduce(torch.zeros(1)),  # as on CUDA
    )
    ranks = fresh_ranks()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        ranks = replace(ranks, world_size=2)
        config = Config(
            precision="no",
            data=DataConfig(num_workers=1),
            batch=BatchConfig(global_size=16, micro_size=4),
        )
        config, task = find_task(config, noise())
        with Collectives(events):
            run = build_run(config, ranks, make_parts(config, task, ranks))
        run.closing.close()
    finally:
        dist.destroy_process_group()
    assert events == ["fork", "fork", "collective"]  # of the training set and of the test set
