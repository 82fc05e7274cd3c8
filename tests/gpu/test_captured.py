"""Steps as CUDA graphs: the same bits as eager ones, and clear words where a step cannot be captured."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import reading_tasks
import tasks
from lockstep.config import (
    AugmentConfig,
    BatchConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from lockstep.engine import take_step
from lockstep.engine.records import step_record
from lockstep.errors import ConfigError
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import built_run, fresh_ranks, small_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

NUM_STEPS = 25
AUGMENT = AugmentConfig(shift_pixels=2, rotate_degrees=5, cutout_pixels=4)
CONFIGS = {
    "cnn": small_config(model=ModelConfig(name="cnn")),
    "cnn clipped": small_config(
        model=ModelConfig(name="cnn"), optimizer=OptimizerConfig(max_grad_norm=0.5, groups={"conv1": 0.001})
    ),
    "cnn dropout augment": small_config(model=ModelConfig(name="cnn", dropout=0.3), augment=AUGMENT),
    "cnn bf16": small_config(model=ModelConfig(name="cnn"), precision="bf16"),
    "cnn fp16": small_config(model=ModelConfig(name="cnn"), precision="fp16"),
    "cnn-strided one micro-batch": small_config(
        model=ModelConfig(name="cnn-strided"), batch=BatchConfig(global_size=64, micro_size=64)
    ),
    "mlp micro-batches of 6": small_config(batch=BatchConfig(global_size=24, micro_size=6)),
    "mlp sgd one-cycle": small_config(
        optimizer=OptimizerConfig(name="sgd", momentum=0.9), schedule=ScheduleConfig(name="one-cycle")
    ),
    "mlp rmsprop": small_config(optimizer=OptimizerConfig(name="rmsprop")),
    "mlp fast": small_config(reduction="fast"),
    "rnn": small_config(model=ModelConfig(name="rnn")),
    "cnn-gru adamw": small_config(
        model=ModelConfig(name="cnn-gru"), optimizer=OptimizerConfig(name="adamw", weight_decay=0.1)
    ),
    "Resnet": small_config(model=ModelConfig(name="any_models:Resnet")),
    "Embedding": small_config(model=ModelConfig(name="any_models:Embedding")),
}


@pytest.fixture(autouse=True)
def _restore_determinism():
    """Exact reduction sets this for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


def outcome(config, engine, task=None):
    """Digest of the weights after two epochs and a half, every fourth step logged, and the records."""
    config = replace(config, engine=engine, train=TrainConfig(steps=NUM_STEPS))
    run = built_run(config, fresh_ranks(config.precision), task=task)
    assert (run.captured is not None) == (engine == "captured")
    records = []
    with run.closing:
        for _ in range(NUM_STEPS):
            result = take_step(run, is_logged=run.step % 4 == 0)
            if result.scores is not None:
                records.append(step_record(run, result))
    return weights_sha256(run.model.state_dict()), records


@pytest.mark.parametrize("name", CONFIGS)
def test_captured_steps_have_the_bits_of_eager_ones(name):
    assert outcome(CONFIGS[name], "captured") == outcome(CONFIGS[name], "eager")


def test_a_counting_loss_and_mixup_are_captured_too():
    config = Config(precision="no", batch=BatchConfig(global_size=16, micro_size=4))
    for task in (tasks.sentences, reading_tasks.mixup):
        assert outcome(config, "captured", task()) == outcome(config, "eager", task())


def test_built_in_models_are_captured_by_default():
    assert built_run(small_config(), fresh_ranks()).captured is not None


@pytest.mark.parametrize(
    "model",
    [
        "any_models:HostNoise",
        "any_models:WaitsForTheDevice",
        "any_models:DropoutLstm",  # cuDNN rebuilds its dropout state after a seed
        "any_models:Transformer",  # activation checkpointing saves the state of generators
    ],
)
def test_a_step_that_cannot_be_captured_is_refused(model):
    config = small_config(model=ModelConfig(name=model), engine="captured")
    with pytest.raises(ConfigError, match="--engine eager") as refusal:
        built_run(config, fresh_ranks())
    print(refusal.value)
    built_run(replace(config, engine="eager"), fresh_ranks())
