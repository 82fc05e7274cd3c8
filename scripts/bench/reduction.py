"""What exact reduction costs: seconds a step of exact over fast, side by side in one run (A B A B …).

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 scripts/bench/reduction.py

Prints a JSON line: the median of the ratios of neighbouring rounds, their quartiles, and what it ran on.
"""

import json
import statistics
import time
from dataclasses import replace

import accelerate
import torch

from lockstep.assemble import build_run
from lockstep.config import Config, DataConfig
from lockstep.data import load_dataset
from lockstep.launch import read_launch
from lockstep.loop import take_step
from lockstep.ranks import start_ranks
from lockstep.run import Run

ROUNDS, STEPS = 20, 10


def seconds_of(run: Run) -> float:
    """Seconds of STEPS steps."""
    run.ranks.barrier()
    begin = time.perf_counter()
    for _ in range(STEPS):
        take_step(run)
    run.ranks.barrier()
    return time.perf_counter() - begin


def main() -> None:
    """Both reductions on the default recipe's network and batch sizes, on generated images."""
    config = Config(data=DataConfig(name="synthetic"), precision="no")
    ranks = start_ranks(read_launch(), "no")
    dataset = load_dataset(config.data, config.seed)
    runs = {name: build_run(replace(config, reduction=name), ranks, dataset) for name in ("fast", "exact")}
    for run in runs.values():
        seconds_of(run)  # warm up
    times = [{name: seconds_of(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    ratios = [pair["exact"] / pair["fast"] for pair in times]
    low, median, high = statistics.quantiles(ratios, n=4)
    if ranks.is_main:
        result = {
            "exact_over_fast": round(median, 3),
            "quartiles": [round(low, 3), round(high, 3)],
            "rounds": ROUNDS,
            "steps_a_round": STEPS,
            "processes": ranks.world_size,
            "threads": ranks.num_threads,
            "device": str(ranks.device),
            "milliseconds_a_step_fast": round(1e3 * statistics.median(p["fast"] for p in times) / STEPS, 2),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        }
        print(json.dumps(result), flush=True)
    ranks.close()


if __name__ == "__main__":
    main()
