"""Runs under torchrun: trains tasks that draw as they read, and prints the weights and scores of each.

A task is given as NAME, or as NAME:STEP:SIGNAL: then every rank sends itself this signal after this step.
"""

import json
import os
import signal
import sys

import lockstep
import reading_tasks

folder, num_workers, *words = sys.argv[1:]


class SignalAt(lockstep.Observer):
    """Sends its own process a signal after a step."""

    def __init__(self, step, name):
        self.step, self.number = int(step), signal.Signals[name]

    def on_step_end(self, run, result):
        if run.step == self.step:
            os.kill(os.getpid(), self.number)


if __name__ == "__main__":
    results = {}
    for word in words:
        name, *stop = word.split(":")
        config = lockstep.Config(
            batch=lockstep.BatchConfig(global_size=16, micro_size=4, eval_size=3),
            data=lockstep.DataConfig(num_workers=int(num_workers)),
            train=lockstep.TrainConfig(epochs=3, checkpoint_every=2, log_every=1, report=False),
            run=lockstep.RunConfig(dir=folder, name=name, timeout_seconds=100),
            tracking=lockstep.TrackingConfig(mode="disabled"),
        )
        observers = [SignalAt(*stop)] if stop else []
        try:
            result = lockstep.train(getattr(reading_tasks, name)(), config, observers=observers)
        except lockstep.Interrupted as interruption:
            results[name] = interruption.step
        else:
            results[name] = [result.summary["weights_sha256"], result.summary["test_loss"]]
    if os.environ["RANK"] == "0":
        print(json.dumps(results))
