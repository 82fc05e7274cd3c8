"""The trainer's overhead over a bare loop: zero_grad, forward, loss, backward, step and nothing else.

The bare loop has the same network, optimizer and micro-batches, prepared as tensors. The trainer's step is
measured on the same tensors, and again with gathering and normalising its own.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.nn import functional as F

from harness import Bench, main, seconds_of, side_by_side, wait_for_device
from lockstep.config import Config
from lockstep.data import MicroBatch
from lockstep.engine import Run, build_optimizer, take_step, train
from lockstep.task import build_model
from lockstep.trainer import open_sinks
from results import Row, median_row, ratio

NUM_READY = 16  # prepared windows, used in turn


def measure(bench: Bench) -> list[Row]:
    """A step with one micro-batch, one with eight as in the default recipe, and that recipe's whole loop."""
    rows = [*steps(bench, micro_size=256), *steps(bench, micro_size=32), *whole_loop(bench)]
    return [*rows, *(reductions(bench, window) for window in (1, 8))]


def steps(bench: Bench, micro_size: int) -> list[Row]:
    """`take_step` against the bare loop."""
    config = bench.config(global_size=256, micro_size=micro_size)
    run = bench.run(config)
    ready = [next(run.windows) for _ in range(NUM_READY)]
    ready_run = replace(bench.run(config), windows=itertools.cycle(ready))
    fast_run = replace(bench.run(replace(config, reduction="fast")), windows=itertools.cycle(ready))
    bare_step = bare_loop(config, run, ready)
    repeats = bench.count(10)
    times = side_by_side(
        {
            "trainer": partial(seconds_of, partial(take_step, run), repeats),
            "ready": partial(seconds_of, partial(take_step, ready_run), repeats),
            "fast": partial(seconds_of, partial(take_step, fast_run), repeats),
            "bare": partial(seconds_of, bare_step, repeats),
        },
        bench.count(20),
    )
    shape = f"256 = {256 // micro_size} x {micro_size}"
    return [
        ratio(f"step / bare step, {shape}", times["ready"], times["bare"], at_most=limit(bench)),
        ratio(
            f"step, fast reduction / bare step, {shape}", times["fast"], times["bare"], at_most=limit(bench)
        ),
        ratio(f"step with its data / bare step, {shape}", times["trainer"], times["bare"]),
        median_row(f"bare step, {shape}", [1e3 * seconds / repeats for seconds in times["bare"]], "ms"),
    ]


def reductions(bench: Bench, window: int) -> Row:
    """`fast` against `exact` in steps of single images, where the host's own work counts most."""
    config = replace(bench.config(global_size=window, micro_size=1), engine="eager")
    runs = {name: bench.run(replace(config, reduction=name)) for name in ("exact", "fast")}
    steps = {name: partial(seconds_of, partial(take_step, run), 25) for name, run in runs.items()}
    times = side_by_side(steps, bench.count(20))
    return ratio(f"step, fast / exact, {window} x 1", times["fast"], times["exact"], at_most=1.05)


def whole_loop(bench: Bench) -> list[Row]:
    """`train` with its records and digests at default intervals, without evaluations and checkpoints."""
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        config = bench.config(folder=folder)
        repeats = 10 if bench.is_quick else config.train.digest_every  # each event happens in every block
        rounds = bench.count(8)
        num_steps = (rounds + 1) * repeats + 1
        # One evaluation and one checkpoint, at the last step, which is outside every block.
        intervals = replace(config.train, steps=num_steps, eval_every=num_steps, checkpoint_every=num_steps)
        run = bench.run(replace(config, train=intervals))
        run.folder.mkdir()
        bare_step = bare_loop(config, run, [next(run.windows) for _ in range(NUM_READY)])
        trainer: list[float] = []
        bare: list[float] = []
        begin = time.perf_counter()

        def in_blocks(windows: Iterator[list[MicroBatch]]) -> Iterator[list[MicroBatch]]:
            """Runs the bare loop between two blocks of steps. An observer would make the steps eager."""
            nonlocal begin
            for step in itertools.count():
                if step % repeats == 0:
                    wait_for_device()
                    trainer.append(time.perf_counter() - begin)
                    bare.append(seconds_of(bare_step, repeats))
                    begin = time.perf_counter()
                yield next(windows)

        run.windows = in_blocks(run.windows)
        with redirect_stdout(nowhere):
            open_sinks(config, run, "disabled", {})
            train(run)
        for sink in run.sinks:
            sink.close("finished")
    # The first entry of `trainer` precedes its first block, and that block is the warm-up.
    return [ratio("whole loop with its data / bare loop, 256 = 8 x 32", trainer[2:], bare[1:-1])]


def bare_loop(config: Config, run: Run, ready: list[list[MicroBatch]]) -> Callable[[], None]:
    """Builds the step of the bare loop over prepared windows."""
    model = build_model(config.model, config.seed).to(run.ranks.device)
    optimizer = build_optimizer(model, config.optimizer, fused=True)
    windows = itertools.cycle([[(batch.inputs, batch.targets) for batch in window] for window in ready])

    def step() -> None:
        optimizer.zero_grad()
        window = next(windows)
        for images, labels in window:
            loss = F.cross_entropy(model(images), labels) / len(window)
            loss.backward()
        optimizer.step()

    return step


def limit(bench: Bench) -> float:
    """The target: the trainer's time as a multiple of the bare loop's."""
    return 1.05 if bench.ranks.device.type == "cuda" else 1.03


if __name__ == "__main__":
    main(measure)
