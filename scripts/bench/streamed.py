"""What a training set on disk costs: streamed over resident seconds, side by side in one run (A B A B …).

    OMP_NUM_THREADS=2 python scripts/bench/streamed.py --config configs/cnn.yaml --data.root data

Takes the options of `lockstep train`. Prints a JSON line: the median of the ratios of neighbouring rounds,
their quartiles, and what it ran on.
"""

import json
import statistics
import sys
import time
from dataclasses import replace

import accelerate
import torch

from lockstep.arguments import parse_config
from lockstep.assemble import build_run, shared_dataset
from lockstep.launch import read_launch
from lockstep.loop import take_step
from lockstep.ranks import joined
from lockstep.run import Run

ROUNDS = 12
STEPS = 32  # several spans of the worker, so that a round cannot live on what was read ahead before it


def seconds_of(run: Run) -> float:
    """Seconds of STEPS steps."""
    run.ranks.barrier()
    begin = time.perf_counter()
    for _ in range(STEPS):
        scores, _ = take_step(run)
    scores.sum().item()  # waits for the device
    run.ranks.barrier()
    return time.perf_counter() - begin


def main() -> None:
    """Both ways of storage on one config, in turn."""
    config = parse_config(sys.argv[1:])
    with joined(read_launch(), "no") as ranks:
        runs = {}
        for storage in ("resident", "streamed"):
            stored = replace(config, precision="no", data=replace(config.data, storage=storage))
            runs[storage] = build_run(stored, ranks, shared_dataset(stored, ranks))
        for run in runs.values():
            seconds_of(run)  # warm up
        times = [{storage: seconds_of(run) for storage, run in runs.items()} for _ in range(ROUNDS)]
        runs["streamed"].closing.close()
        ratios = [pair["streamed"] / pair["resident"] for pair in times]
        low, median, high = statistics.quantiles(ratios, n=4)
        seconds = statistics.median(pair["resident"] for pair in times)
        result = {
            "streamed_over_resident": round(median, 3),
            "quartiles": [round(low, 3), round(high, 3)],
            "rounds": ROUNDS,
            "steps_a_round": STEPS,
            "workers": config.data.num_workers,
            "processes": ranks.world_size,
            "threads": ranks.num_threads,
            "device": str(ranks.device),
            "images_per_second_resident": round(STEPS * config.batch.global_size / seconds),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        }
        if ranks.is_main:
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
