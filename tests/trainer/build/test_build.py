"""A run is built whole, or what was made for it is taken back."""

import multiprocessing
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import lockstep
from lockstep.config import DataConfig, ModelConfig, TrainConfig
from lockstep.errors import ConfigError
from reading_tasks import WithNoise
from runs import built_run, small_config


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
