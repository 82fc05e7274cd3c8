"""What it costs that any model keeps its bits: seeding generators and combining buffers in each step.

The model is torchvision's resnet18 with its BatchNorm, on MNIST. Its step is compared with a bare loop over
the same tensors, and the parts that only the promise needs are timed on their own. An LSTM shows what new
seeds cost where cuDNN draws: it makes its dropout state anew.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from harness import Bench, main, seconds_of, side_by_side
from lockstep.config import ModelConfig
from lockstep.data import MicroBatch, seed_generators
from lockstep.engine import Run, take_step
from overhead import bare_loop
from results import Row, ratio

NUM_READY = 4  # prepared windows, used in turn


class Lstm(nn.Module):
    """(batch, 1, 28, 28) → (batch, 10); two layers, with dropout between them."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 128, num_layers=2, dropout=dropout, batch_first=True)
        self.linear = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        outputs, _ = self.lstm(images.squeeze(1))
        return self.linear(outputs[:, -1])


def measure(bench: Bench) -> list[Row]:
    """A step of resnet18 against the bare loop, and the share of seeding, buffers and counts in it."""
    config = bench.config(global_size=64, micro_size=32)
    config = replace(config, model=ModelConfig(name="torchvision:resnet18"))
    run = bench.run(config)
    ready = [next(run.windows) for _ in range(NUM_READY)]
    run = replace(run, windows=itertools.cycle(ready))
    run.model.train()
    blocks = {
        "step": partial(seconds_of, partial(take_step, run), 1),
        "bare": partial(seconds_of, bare_loop(config, run, ready), 1),
        "promise": partial(seconds_of, partial(keep_the_promise, run, ready[0]), 1),
    }
    times = side_by_side(blocks, bench.count(20))
    return [
        ratio("resnet18: step / bare step, 64 = 2 x 32", times["step"], times["bare"]),
        ratio("resnet18: seeding, buffers and counts / step", times["promise"], times["step"], at_most=0.01),
        *seeded_lstm(bench, ready[0]),
    ]


def seeded_lstm(bench: Bench, window: list[MicroBatch]) -> list[Row]:
    """Forward and backward of an LSTM after a new seed, as in a step, against the same with the old one."""
    model, device = Lstm(dropout=0.3).to(bench.ranks.device), bench.ranks.device

    def passes(*, seeds: bool) -> None:
        for batch in window:
            if seeds:
                seed_generators(device, 0, "step", batch.step, batch.slot)
            model(batch.inputs).sum().backward()

    blocks = {
        name: partial(seconds_of, partial(passes, seeds=name == "new"), 5) for name in ("new", "earlier")
    }
    times = side_by_side(blocks, bench.count(10))
    name = "LSTM with dropout: forward and backward with new seeds / without"
    return [ratio(name, times["new"], times["earlier"])]


def keep_the_promise(run: Run, window: list[MicroBatch]) -> None:
    """All that a step does for randomness, buffers and counts, without the step."""
    buffers, counts = run.reduction.buffers, []
    buffers.begin_step()
    sums: list[torch.Tensor] = []
    for batch in window:
        seed_generators(run.ranks.device, run.seed, "step", batch.step, batch.slot)
        buffers.begin_micro_batch()
        left = [value.clone() for value in buffers.end_micro_batch()]
        counts.append(torch.ones((), device=run.ranks.device))
        sums = [one + other for one, other in zip(sums, left, strict=True)] if sums else left
    torch.stack(counts).sum().item()
    buffers.end_step(sums, len(window))


if __name__ == "__main__":
    main(measure)
