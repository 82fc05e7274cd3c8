"""How long training waits for each record, digest, evaluation and checkpoint.

Per event, and as a share of the time of the steps between two such events at default intervals.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import Bench, main, seconds_of, side_by_side
from lockstep.config import as_dict
from lockstep.engine import agreed_digest, evaluate_run, save_checkpoint_of, step_record, take_step
from lockstep.report import Console
from lockstep.runs import MetricsFile, Sink
from lockstep.tracking.upload.wandb_run import WandbRun
from results import Row, median_row


def measure(bench: Bench) -> list[Row]:
    """Milliseconds per event and its share of the training time, with the default recipe."""
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        config = bench.config(folder=folder)
        run = bench.run(config)
        run.folder.mkdir()
        result = take_step(run, is_logged=True)
        record = {"epoch": 0.5, "samples_seen": 0, **step_record(run, result), "samples_per_second": 1e4}
        sinks: dict[str, Sink] = {
            "metrics.jsonl": MetricsFile(run.folder, resume_step=0),
            "console": Console(0, run.num_steps, run.task.headline),
            "W&B offline": WandbRun(run.folder, config.tracking, "offline", as_dict(config), notify=print),
        }
        epoch, intervals = run.plan.steps_per_epoch, config.train
        events: dict[str, tuple[int, Callable[[], object]]] = {
            "record: numbers of all ranks": (intervals.log_every, lambda: step_record(run, result)),
            **{f"record: {name}": (intervals.log_every, writer(sinks[name], record)) for name in sinks},
            "digest": (intervals.digest_every, lambda: agreed_digest(run.model, run.ranks, run.step)),
            "evaluation": (intervals.eval_every or epoch, lambda: evaluate_run(run)),
            "checkpoint": (intervals.checkpoint_every or epoch, lambda: save_checkpoint_of(run)),
            "step": (1, lambda: take_step(run)),
        }
        with redirect_stdout(nowhere):
            blocks = {name: partial(seconds_of, action) for name, (_, action) in events.items()}
            times = side_by_side(blocks, bench.count(20))
        for sink in sinks.values():
            sink.close("finished")
    rows = []
    for name, (every, _) in events.items():
        rows.append(median_row(name, [1e3 * seconds for seconds in times[name]], "ms"))
        if name != "step":
            what = f"{name}, share of the {every} steps in between"
            share = statistics.median(times[name]) / (every * statistics.median(times["step"]))
            rows.append(Row(what=what, value=100 * share, unit="%", n=len(times[name])))
    return rows


def writer(sink: Sink, record: dict[str, object]) -> Callable[[], None]:
    """Logs the same record, as that of the next step at each call."""
    steps = count(1)
    return lambda: sink.log({"step": next(steps), **record})


if __name__ == "__main__":
    main(measure)
