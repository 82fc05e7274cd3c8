"""`batch.micro_size: auto`: the largest micro-batch that fits into memory; and what to do when none does."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from lockstep.config import Config, is_file
from lockstep.data import restored_generators, seed_generators
from lockstep.engine import is_out_of_memory, restored_buffers
from lockstep.errors import RankFailed, refuse, short_message
from lockstep.launch import advance, limited
from lockstep.launch.host_memory import free_bytes, limited_growth
from lockstep.launch.ranks.ranks import Ranks
from lockstep.plan import micro_sizes, window_for_reduction
from lockstep.runs import SETTINGS_FILE, newest_checkpoint_step, read_settings
from lockstep.task import compute_loss, share_of_mean, training_forward
from lockstep.trainer.build.build import make_plan, prepare_forward
from lockstep.trainer.build.find_traits import TRYING, first_of_slot
from lockstep.trainer.parts.parts import Parts

HOST_SHARE = 0.9
"""Of what is free on the host. The rest is for what else runs there, such as processes that read data."""
OPTIMIZER_TENSORS = 2
"""Tensors per parameter that the optimizer makes in its first step: Adam's two moments."""


def recorded_micro_size(config: Config, folder: Path) -> Config:
    """The config with the number that the run in a folder has found for 'auto', if it has."""
    if config.batch.micro_size != "auto" or not is_file(folder / SETTINGS_FILE):
        return config
    size = read_settings(folder).get("batch", {}).get("micro_size", config.batch.micro_size)
    return with_micro_size(config, size, folder)


def with_micro_size(config: Config, size: int, folder: Path) -> Config:
    """The config with a number for 'auto', from which the name of the run is derived, and stays."""
    batch, run = replace(config.batch, micro_size=size), replace(config.run, name=folder.name)
    return replace(config, batch=batch, run=run)


def fit_micro_size(config: Config, ranks: Ranks, parts: Parts, folder: Path) -> Config:
    """The config with the largest size that fits on every rank, if it says 'auto'. All ranks must call it.

    Raises:
        ConfigError: on every rank, if not even the smallest one fits.
    """
    if config.batch.micro_size != "auto":
        return config
    share = share_of_host(ranks)
    for size in micro_sizes(config.batch, config.reduction, ranks.world_size):
        sized = with_micro_size(config, size, folder)
        if not ranks.agree(not fits(sized, ranks, parts, share)):
            return sized
    rule = f"a micro-batch of {size} does not fit into memory; take a smaller model or a larger device"
    raise refuse("batch.micro_size", "auto", rule)


def share_of_host(ranks: Ranks) -> int:
    """The bytes of its host that each rank may take on a CPU, the same on all. A collective."""
    nodes = ranks.gather_objects((platform.node(), free_bytes()))
    num_ranks = Counter(node for node, _ in nodes)
    return int(HOST_SHARE * min(free // num_ranks[node] for node, free in nodes))


def fits(config: Config, ranks: Ranks, parts: Parts, share: int) -> bool:
    """Whether this rank can compute a micro-batch. Leaves the model and the generators as they were.

    On a CPU, its memory is limited to a share meanwhile: the kernel would kill the process.
    """
    try:
        with limited_growth(share) if ranks.device.type == "cpu" else nullcontext():
            rehearse(config, ranks, parts)
    except Exception as error:
        # Another mistake is not this one's business: the trials that come next report it.
        return not is_out_of_memory(error)
    finally:
        for parameter in parts.model.parameters():
            parameter.grad = None
        if ranks.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def rehearse(config: Config, ranks: Ranks, parts: Parts) -> None:
    """Computes a micro-batch twice, beside as much as the optimizer and the gradient sum will hold."""
    plan = make_plan(config, ranks, len(parts.train), parts.num_held_out)
    window = window_for_reduction(config.batch, config.reduction, ranks.world_size)
    partial_sums = window.bit_length() if config.reduction == "exact" else 1
    with (
        ExitStack() as closing,
        restored_buffers(parts.model),
        restored_generators(ranks.device),
        limited(TRYING),
    ):
        model = prepare_forward(parts.model.train(), ranks, closing)
        num_copies = OPTIMIZER_TENSORS + partial_sums
        held = [torch.empty_like(p) for p in model.parameters() if p.requires_grad for _ in range(num_copies)]
        batch = first_of_slot(plan, parts.train, 0, plan.micro_batch_sizes(0)[0])
        for _ in range(2):
            advance()
            seed_generators(ranks.device, config.seed, "try out", 0)
            outputs, targets = training_forward(parts.task, model, batch)
            share_of_mean(compute_loss(parts.task, outputs, targets, batch.ids), batch).total.backward()
        del held


@contextmanager
def named_memory(config: Config, folder: Path) -> Iterator[None]:
    """Names the setting that decides over memory when the block runs out of it.

    Raises:
        RankFailed: it did. Only this rank knows.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size = recorded_micro_size(config, folder).batch.micro_size
        remedy = "lower it for a new run, or let it be auto"
        if newest_checkpoint_step(folder):
            remedy = (
                "this run keeps that size, so continue it on a device with more memory; or start a new run "
                f"with a smaller one from these weights: --init-from {folder}"
            )
        text = f"out of memory with batch.micro_size = {size}: {remedy} ({short_message(error)})"
        raise RankFailed(text) from error
