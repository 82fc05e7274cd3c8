"""fp16 with a fused optimizer: what the device skips and counts has the bits of what the host would.

Accelerate offers fp16 on GPUs alone; its scaler takes the same steps on a CPU.
"""

from copy import deepcopy

import pytest
import torch

from lockstep.config import OptimizerConfig, ScheduleConfig, TrainConfig
from lockstep.engine import SkippedSteps, snapshot, take_step, train
from lockstep.engine.optimizer import skipped_steps
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from runs import built_run, overflow_in, scale_losses, small_config

OVERFLOWS = {1, 2, 6, 7, 11}
NUM_STEPS = 14


def fp16_run(folder="unused", checkpoint=None, **optimizer):
    config = small_config(
        folder,
        optimizer=OptimizerConfig(weight_decay=0.1, **optimizer),
        schedule=ScheduleConfig(name="one-cycle"),
        train=TrainConfig(steps=NUM_STEPS, ema=0.9, log_every=4, digest_every=100),
    )
    run = built_run(config, checkpoint=checkpoint)
    scale_losses(run, torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=3))
    overflow_in(run, OVERFLOWS)
    return run


def outcome(run):
    content = snapshot(run)
    state = content.state["optimizer"]["state"]
    return {
        "weights": weights_sha256(content.weights),
        "averages": weights_sha256(content.ema),
        "state": [{name: value.tolist() for name, value in each.items()} for each in state.values()],
        "groups": content.state["optimizer"]["param_groups"],
        "scaler": content.state["scaler"],
        "skipped": content.state["skipped_steps"],
    }


class Records:
    def __init__(self):
        self.seen = []

    def log(self, record):
        self.seen.append({name: value for name, value in record.items() if "seconds" not in name})


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "adam"},
        {"name": "adamw", "max_grad_norm": 0.5, "groups": {"linear1": 0.02, "": 0.01}},
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.0},
        {"name": "sgd", "args": {"dampening": 0.5}},
    ],
    ids=["adam", "adamw", "sgd", "sgd without momentum", "sgd with dampening"],
)
def test_what_the_device_skips_has_the_bits_of_what_the_host_does(optimizer, monkeypatch, tmp_path):
    monkeypatch.setattr(skipped_steps, "NUM_UPDATES", 4)  # so the rates on the device are renewed
    asked = []
    update = SkippedSteps.update
    monkeypatch.setattr(SkippedSteps, "update", lambda *args: asked.append(args[4]) or update(*args))
    run, sink = fp16_run(tmp_path / "one", **optimizer), Records()
    run.sinks = [sink]
    train(run)
    assert asked == list(range(3, NUM_STEPS))  # the first update is that of step 3
    monkeypatch.setattr(SkippedSteps, "can_update", lambda *_: False)
    other, expected = fp16_run(tmp_path / "other", **optimizer), Records()
    other.sinks = [expected]
    train(other)
    assert other.skipped_steps == len(OVERFLOWS)
    assert outcome(run) == outcome(other)
    drop = ("samples_per_second", "peak_host_bytes")
    for one, another in zip(sink.seen, expected.seen, strict=True):
        assert {name: one[name] for name in one if name not in drop} == {
            name: another[name] for name in another if name not in drop
        }


def test_an_optimizer_that_is_not_fused_waits(monkeypatch):
    monkeypatch.setattr(SkippedSteps, "update", lambda *_: pytest.fail("it cannot skip"))
    run = fp16_run(name="rmsprop")
    for _ in range(4):
        take_step(run)
    assert run.skipped_steps == 2


def test_a_checkpoint_of_an_optimizer_that_was_not_fused_goes_on_fused():
    run = fp16_run(name="adam")
    for _ in range(4):
        take_step(run)
    content = deepcopy(snapshot(run))
    for group in content.state["optimizer"]["param_groups"]:
        group["fused"] = None
    resumed = fp16_run(checkpoint=content, name="adam")
    resumed.ranks.accelerator.scaler.load_state_dict(content.state["scaler"])
    for each in (run, resumed):
        for _ in range(4):
            take_step(each)
    assert outcome(run) == outcome(resumed)
