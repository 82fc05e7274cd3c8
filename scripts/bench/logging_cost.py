"""What logging to W&B costs a training step: with it offline and without it, in turns in one process.

Run:  python scripts/bench/logging_cost.py [ROUNDS]

Prints the milliseconds of a step with and without W&B at the default interval, over all rounds, and the
microseconds that `log` takes on the main thread. The thread's own work is in the first number: it shares the
interpreter with the loop.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from lockstep.assemble import build_run
from lockstep.config import Config, DataConfig, TrackingConfig
from lockstep.data import load_dataset
from lockstep.launch import read_launch
from lockstep.loop import take_step
from lockstep.ranks import joined
from lockstep.records import training_record
from lockstep.tracking import WandbRun

STEPS = 200  # of a round: ten records


def main(rounds: int) -> None:
    config = Config(precision="no", data=DataConfig(name="synthetic"))
    with joined(read_launch(), "no") as ranks, tempfile.TemporaryDirectory() as folder:
        run = build_run(config, ranks, load_dataset(config.data, config.seed))
        wandb_run = WandbRun(Path(folder), TrackingConfig(), "offline", {}, notify=print)
        wandb_run.log({"step": 1, "loss": 0.0})
        time.sleep(10)  # until wandb is imported and has opened its file
        seconds: dict[bool, list[float]] = {True: [], False: []}
        log_seconds = []
        for half in range(2 * rounds):
            is_on = half % 2 == 0
            begin = time.perf_counter()
            for _ in range(STEPS):
                scores, grad_norm = take_step(run)
                if run.step % config.train.log_every == 0:
                    record = {"step": run.step, **training_record(run, scores, grad_norm)}
                    if is_on:
                        before = time.perf_counter()
                        wandb_run.log(record)
                        log_seconds.append(time.perf_counter() - before)
            seconds[is_on].append((time.perf_counter() - begin) / STEPS)
        wandb_run.close("finished")
    on, off = (statistics.median(seconds[key]) for key in (True, False))
    print(f"with W&B {on * 1e3:.3f} ms/step, without {off * 1e3:.3f}: {on / off - 1:+.2%} ({rounds} rounds)")
    print(
        f"log(): median {statistics.median(log_seconds) * 1e6:.1f} us, most {max(log_seconds) * 1e6:.0f} us"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
