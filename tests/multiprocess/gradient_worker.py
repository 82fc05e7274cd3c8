"""Runs under torchrun: every rank compares the real loop with a plain model fed the whole batch."""

import os
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist

from lockstep.config import BatchConfig, DataConfig
from lockstep.data import ImageSamples, ImageStore, chunks_of
from lockstep.engine import agreed_digest, evaluate, loop, save_checkpoint_of, train
from lockstep.errors import ConfigError, PeerError, RunStopped
from runs import fresh_ranks, record_gradients, reference_gradients, small_config, small_run

loop.save_checkpoint_of = lambda run: None


def check_gradients(precision: str, tolerance: float) -> None:
    """Every step of an epoch, including the short last one."""
    ranks = fresh_ranks(precision)
    config = small_config(
        precision=precision,
        data=DataConfig(name="synthetic", num_train=3 * 64 + 24),
        batch=BatchConfig(global_size=64, micro_size=8),
    )
    run, dataset = small_run(config, ranks)
    assert run.plan.window == 8 // ranks.world_size
    gradients = record_gradients(run)
    for step in range(run.plan.steps_per_epoch):
        before = deepcopy(run.model)
        run.num_steps = step + 1
        train(run)
        reference = reference_gradients(before, run, dataset, step)
        scale = max(value.abs().max() for value in reference.values())
        for name, value in reference.items():
            error = (gradients[step][name] - value).abs().max() / scale
            assert error <= tolerance, f"{precision} step {step} {name}: {error}"
    assert run.plan.samples_in_step(step) == 24, "the last step should have been a short one"


def check_evaluation() -> None:
    """T7: of 1003 samples each is scored exactly once, however often the evaluation is repeated."""
    ranks = fresh_ranks()
    run, _ = small_run(small_config(), ranks)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1003, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (1003,), generator=generator)
    samples = ImageSamples(images=ImageStore(images=images, labels=labels))
    chunks = chunks_of(samples, 250, ranks.rank, ranks.world_size, run.closing)
    logits = run.model((images.unsqueeze(1).float() - 0.1307 * 255) / (0.3081 * 255))
    for _ in range(2):
        result = evaluate(run.model, run.task, chunks, ranks, step=run.step, seed=run.seed)
        assert result.num_samples == 1003
        assert torch.equal(result.columns["prediction"], logits.argmax(1))
        assert torch.allclose(result.columns["loss"], run.task.loss(logits, labels), atol=1e-5)


def check_agreements() -> None:
    """A decision, a value and a failure of one rank reach all ranks."""
    ranks = fresh_ranks()
    last = ranks.world_size - 1
    assert ranks.agree(ranks.rank == last)
    assert not ranks.agree(False)
    assert ranks.on_main(lambda: ranks.rank) == 0
    rows = ranks.gather(torch.full((2, 3), float(ranks.rank)))
    assert rows[:, 0].tolist() == [rank for rank in range(ranks.world_size) for _ in range(2)]

    def refuse() -> None:
        raise ConfigError("a.b = 1: no")

    def fail() -> None:
        raise OSError("disk full")

    for action, main_error, peer_error in ((refuse, ConfigError, ConfigError), (fail, OSError, PeerError)):
        error = main_error if ranks.is_main else peer_error
        with pytest.raises(error, match=r"a\.b = 1: no|disk full"):
            ranks.on_main(action)


def check_digests() -> None:
    """One flipped bit on one rank stops the run on all; the error names step, rank and parameter."""
    ranks = fresh_ranks()
    run, _ = small_run(small_config(), ranks)
    last = ranks.world_size - 1
    agreed_digest(run.model, ranks, step=1)
    if ranks.rank == last:
        run.model.linear2.bias.data.view(torch.int32)[3] ^= 1
    with pytest.raises(RunStopped, match=rf"step 7: .* ranks \[{last}\] .* first in linear2.bias"):
        agreed_digest(run.model, ranks, step=7)
    with pytest.raises(RunStopped, match=r"first in linear2.bias"):  # before anything is saved
        save_checkpoint_of(run)
    assert not run.folder.exists()


check_agreements()
check_digests()
check_evaluation()
check_gradients("no", 2e-5)
check_gradients("bf16", 3e-2)
dist.destroy_process_group()
os.write(1, f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} passed\n".encode())
