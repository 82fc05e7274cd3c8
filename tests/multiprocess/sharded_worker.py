"""Runs under torchrun: every rank compares runs with a sharded optimizer with the same ones without."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from lockstep.config import BatchConfig, Config, ModelConfig, OptimizerConfig, TrainConfig
from lockstep.engine import (
    Observer,
    Observers,
    OrderCheck,
    save_checkpoint_of,
    take_step,
)
from lockstep.runs.checkpoints.checkpoint import load_checkpoint, weights_sha256
from runs import built_run, fresh_ranks, overflow_in, record_gradients, scale_losses, small_config
from tasks import sentences

FOLDER = Path(sys.argv[1])
ADAMW = OptimizerConfig(name="adamw", lr=0.01, weight_decay=0.1, max_grad_norm=0.5)


def sharded(config):
    return replace(config, optimizer=replace(config.optimizer, sharded=True))


def digest_after(config, num_steps=4, task=None, is_scaled=False):
    """Of weights and averages after some steps."""
    run = built_run(config, fresh_ranks(), task=task)
    if is_scaled:
        scale_losses(run, torch.amp.GradScaler("cpu", init_scale=2.0**16))
        overflow_in(run, {2})  # of the smallest parameter: one rank has it
    for _ in range(num_steps):
        take_step(run)
    assert run.skipped_steps == is_scaled
    averages = (
        {} if run.average is None else {f"ema {name}": each for name, each in run.average.named().items()}
    )
    return weights_sha256(run.model.state_dict() | averages)


def check_bits():
    """Momentum, averages of weights, a loss that counts, an overflow that one rank sees."""
    sgd = OptimizerConfig(name="sgd", lr=0.1)
    batch = BatchConfig(global_size=64, micro_size=8)
    for config, task, is_scaled in (
        (small_config(optimizer=sgd, batch=batch, train=TrainConfig(steps=20, ema=0.9)), None, False),
        (
            Config(precision="no", optimizer=ADAMW, batch=BatchConfig(global_size=32, micro_size=8)),
            sentences(),
            False,
        ),
        (small_config(optimizer=ADAMW, batch=batch), None, True),
    ):
        digests = {digest_after(each, 12, task, is_scaled) for each in (config, sharded(config))}
        assert len(digests) == 1, config


class Watch(Observer):
    """Keeps the gradient at each event that has one, and after the step."""

    def __init__(self):
        self.seen = []

    def _keep(self, run, *_):
        self.seen += [None if each.grad is None else each.grad.clone() for each in run.model.parameters()]

    on_sum = on_unscale = on_clip = on_schedule = on_update = on_step_end = _keep


def check_watched_steps():
    """Observers and `tracking.watch` find the whole gradient on every rank; the optimizer gets its part."""
    config, seen = small_config(optimizer=ADAMW), []
    for each in (config, sharded(config)):
        run, watch = built_run(each, fresh_ranks()), Watch()
        passed = record_gradients(run)
        take_step(run)
        take_step(run, Observers(OrderCheck(), watch))
        run.watch_every = 3
        take_step(run)
        watch._keep(run)
        seen.append(watch.seen)
    assert len(seen[0]) == len(seen[1]) == 7 * len(run.trained)
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))
    own = {name for name, each in run.model.named_parameters() if run.owners[each] == run.ranks.rank}
    assert [each.keys() for each in passed] == [own] * 3


def check_state():
    """Each rank has the state of its own parameters; a checkpoint has that of all, and either run resumes."""
    checkpoints, resumed = [], []
    config = small_config(FOLDER, optimizer=ADAMW, model=ModelConfig(name="any_models:Transformer"))
    for each in (config, sharded(config)):
        run = built_run(each, fresh_ranks())
        for _ in range(3):
            take_step(run)
        run.folder = FOLDER / str(each.optimizer.sharded)
        save_checkpoint_of(run)
        checkpoints.append(load_checkpoint(run.folder / "checkpoints" / "step-00000003"))
    states = [each.state["optimizer"]["state"] for each in checkpoints]
    assert list(states[0]) == list(states[1])
    for one, other in zip(*(each.values() for each in states), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    mine = mine_of(run)
    assert set(run.optimizer.state) <= mine
    sizes = run.ranks.gather_objects(sum(each.nbytes for each in mine))
    assert max(sizes) <= 1.34 * sum(sizes) / run.ranks.world_size
    for each, checkpoint in ((config, checkpoints[1]), (sharded(config), checkpoints[0])):
        run = built_run(each, fresh_ranks(), checkpoint)
        assert set(run.optimizer.state) <= (mine_of(run) if each.optimizer.sharded else set(run.trained))
        take_step(run)
        resumed.append(weights_sha256(run.model.state_dict()))
    assert resumed[0] == resumed[1]


def mine_of(run):
    return {each for each in run.trained if run.owners[each] == run.ranks.rank}


check_bits()
check_watched_steps()
check_state()
dist.destroy_process_group()
os.write(1, f"rank {os.environ['RANK']} passed\n".encode())
