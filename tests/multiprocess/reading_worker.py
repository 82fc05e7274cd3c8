"""Runs under torchrun: trains tasks that draw as they read, and prints the weights and scores of each.

With a step, each run is interrupted after it; the same command without one resumes.
"""

import json
import os
import signal
import sys

import lockstep
import reading_tasks

folder, num_workers, stop_at, *names = sys.argv[1:]


class StopAt(lockstep.Observer):
    """Asks a run to stop."""

    def on_step_end(self, run, result):
        if run.step == int(stop_at):
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    results = {}
    for name in names:
        config = lockstep.Config(
            batch=lockstep.BatchConfig(global_size=16, micro_size=4, eval_size=3),
            data=lockstep.DataConfig(num_workers=int(num_workers)),
            train=lockstep.TrainConfig(epochs=2, log_every=1, report=False),
            run=lockstep.RunConfig(dir=folder, name=name, timeout_seconds=100),
            tracking=lockstep.TrackingConfig(mode="disabled"),
        )
        try:
            result = lockstep.train(getattr(reading_tasks, name)(), config, observers=[StopAt()])
        except lockstep.Interrupted as stop:
            results[name] = stop.step
        else:
            results[name] = [result.summary["weights_sha256"], result.summary["test_loss"]]
    if os.environ["RANK"] == "0":
        print(json.dumps(results))
