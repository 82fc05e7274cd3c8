"""How the time per step changes with the number of processes, the reduction, the window and the world size.

Each team of processes is started once, under torchrun, and times blocks of steps on request; the other teams
wait meanwhile. The cost of planning is measured without processes: a plan is a pure function of the world
size.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import count

from torch.cuda import device_count

from harness import NUM_CORES, Bench, main, seconds_of, side_by_side
from lockstep.config import BatchConfig
from lockstep.plan import Plan
from results import Row, median_row, ratio
from team import Team, under_torchrun

WORLDS = (2, 4, 8)
"""Powers of two, so that the recipe's eight micro-batches divide evenly."""
GLOBAL_SIZES = (32, 64, 128, 256, 512, 1024)
WORLD_SIZES = (1, 8, 64, 512, 4096)
MICRO_SIZE = 32


def measure(bench: Bench) -> list[Row]:
    """Measures processes, reductions, windows and planning."""
    is_cuda = bench.ranks.device.type == "cuda"
    num_devices = device_count() if is_cuda else NUM_CORES
    worlds = [world for world in WORLDS if world <= num_devices]
    rows = [] if worlds else [Row(what="several processes: there is only one device", value=None, n=0)]
    with Team(bench, "exact", under_torchrun(1)) as one:
        for world in worlds:
            with ExitStack() as teams:  # one world at a time: each fills the devices
                exact, fast = (
                    teams.enter_context(Team(bench, name, under_torchrun(world)))
                    for name in ("exact", "fast")
                )
                rows += process_rows(bench, one, exact, fast, world)
        rows += window_rows(bench, one)
    return rows + planning_rows(bench)


def process_rows(bench: Bench, one: Team, exact: Team, fast: Team, world: int) -> list[Row]:
    """One process, on a CPU with all cores, against several, with either reduction, and what these add."""
    times = side_by_side(
        {
            "step alone": one.step_seconds,
            "step, exact": exact.step_seconds,
            "step, fast": fast.step_seconds,
            "sum of gradients alone, exact": exact.exchange_seconds,
            "sum of gradients alone, fast": fast.exchange_seconds,
            "an agreement that is waited for": exact.agreement_seconds,
        },
        bench.count(20),
    )
    alone, tree, all_reduce = times["step alone"], times["step, exact"], times["step, fast"]
    who = f"{world} processes"
    return [
        ratio(f"rate of {who} / rate of 1", alone, tree, at_least=0.95),
        ratio(f"step, {who}: exact / fast", tree, all_reduce, at_most=1.1),
        *(
            median_row(f"{who}: {name}", [1e3 * each for each in seconds], "ms")
            for name, seconds in times.items()
        ),
    ]


def window_rows(bench: Bench, one: Team) -> list[Row]:
    """A step in one process, with windows of 1 to 32 equal micro-batches."""
    times = side_by_side(
        {str(size): partial(one.step_seconds, size) for size in GLOBAL_SIZES}, bench.count(10)
    )
    rows = []
    for size in GLOBAL_SIZES:
        per_sample = [1e6 * seconds / size for seconds in times[str(size)]]
        rows.append(
            median_row(f"time per sample, window {size // MICRO_SIZE} x {MICRO_SIZE}", per_sample, "µs")
        )
    return rows


def planning_rows(bench: Bench) -> list[Row]:
    """Time that a rank needs for its sample ids, over an epoch of 60 000 samples in steps of 4096."""

    epochs = count()  # each order is new, as in training

    def plan_epoch(plan: Plan) -> None:
        first_step = next(epochs) * plan.steps_per_epoch
        steps = range(first_step, first_step + plan.steps_per_epoch)
        plan.span_ids(steps, plan.world_size - 1)
        for step in steps:
            plan.epoch_and_offset(step)
            plan.samples_in_step(step)

    batch = BatchConfig(global_size=max(WORLD_SIZES), micro_size=1)
    plans = {
        size: Plan(seed=0, num_samples=60_000, batch=batch, world_size=size, exact=True)
        for size in WORLD_SIZES
    }
    blocks = {str(size): partial(seconds_of, partial(plan_epoch, plans[size])) for size in WORLD_SIZES}
    times = side_by_side(blocks, bench.count(20))
    return [
        median_row(
            f"planning a step, rank of {size}",
            [1e3 * seconds / plans[size].steps_per_epoch for seconds in times[str(size)]],
            "ms",
        )
        for size in WORLD_SIZES
    ]


if __name__ == "__main__":
    main(measure)
