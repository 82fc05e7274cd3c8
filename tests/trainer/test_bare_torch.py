"""Each step against a bare torch loop from the same weights: losses and gradients agree to 1e-6."""

import copy

import pytest
import torch
from torch.nn import functional as F

import tasks
from lockstep.config import BatchConfig, DataConfig, ModelConfig, OptimizerConfig
from lockstep.data import seed_generators
from lockstep.engine import take_step
from runs import built_run, record_gradients, small_config

MODELS = ("Resnet", "Transformer", "SpectralNorm", "Lstm", "Embedding", "MixedDtypes", "NumpyNoise", "Double")
NUM_STEPS = 3


def config_of(name="", **changes):
    return small_config(
        model=ModelConfig(name=f"any_models:{name}") if name else ModelConfig(),
        data=DataConfig(name="synthetic", num_train=32 + 10) if name else DataConfig(),
        batch=BatchConfig(global_size=32, micro_size=8),
        optimizer=OptimizerConfig(name="sgd", lr=0.01),
        **changes,
    )


def bare_step(model, run, window, total_of):
    """The textbook step: the loss of each micro-batch, over the samples or targets of the global batch.

    Spectral normalization computes with its buffers, and each micro-batch starts from those of the step.
    """
    start = [buffer.clone() for buffer in model.buffers()]
    count = sum(total_of(None, batch.targets)[1] for batch in window)
    loss = 0.0
    for batch in window:
        for buffer, value in zip(model.buffers(), start, strict=True):
            buffer.copy_(value)
        seed_generators(run.ranks.device, run.seed, "step", batch.step, batch.slot)
        inputs = batch.inputs
        outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
        share = total_of(outputs, batch.targets)[0] / count
        share.backward()
        loss += share.item()
    return loss


def classes(logits, targets):
    total = F.cross_entropy(logits, targets, reduction="sum") if logits is not None else None
    return total, len(targets)


def tokens(logits, targets):
    total = tasks.token_loss(logits, targets)["loss"][0] if logits is not None else None
    return total, int((targets != -100).sum())


@pytest.mark.parametrize("name", [*MODELS, "sentences"])
def test_each_step_is_that_of_a_bare_loop(name):
    is_task = name == "sentences"
    run = built_run(config_of("" if is_task else name), task=tasks.sentences(42) if is_task else None)
    gradients = record_gradients(run)
    windows, seen = run.windows, []
    run.windows = (seen.append(window) or window for window in windows)
    run.model.train()
    for step in range(NUM_STEPS):
        bare = copy_of(run.model)
        result = take_step(run, is_logged=True)
        loss = bare_step(bare, run, seen[step], tokens if is_task else classes)
        mine = result.losses.sum() / (1 if result.total_count is None else result.total_count)
        assert mine.item() == pytest.approx(loss, rel=1e-6)
        for parameter_name, parameter in bare.named_parameters():
            if parameter.grad is not None:
                got = gradients[step][parameter_name]
                error = (got - parameter.grad).abs().max() / parameter.grad.abs().max().clamp(min=1e-6)
                assert error <= 1e-6 or got.dtype == torch.bfloat16, (step, parameter_name, error)


def copy_of(model):
    """The same model: torch cannot deepcopy the old spectral_norm after a forward, but can load its state."""
    made = type(model)()
    made.load_state_dict(copy.deepcopy(model.state_dict()))
    return made.train()
