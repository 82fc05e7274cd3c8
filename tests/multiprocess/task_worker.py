"""Runs under torchrun: trains tasks as a user's script does and prints their weights and records."""

import json
import os
import sys

import torch

import lockstep
import tasks
from processes import without_times

folder, *names = sys.argv[1:]
torch.rand(3)  # so that the global generators are not as a fresh process has them
results = {}
for name in names:
    task = getattr(tasks, name)()
    config = lockstep.Config(
        batch=lockstep.BatchConfig(global_size=32, micro_size=8, eval_size=5),
        train=lockstep.TrainConfig(epochs=2, log_every=1, report=False),
        run=lockstep.RunConfig(dir=folder),
        tracking=lockstep.TrackingConfig(mode="disabled"),
        optimizer=lockstep.OptimizerConfig(name="adamw", weight_decay=0.1),
    )
    result = lockstep.train(task, config)
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    results[name] = {
        "weights": result.summary["weights_sha256"],
        "records": [without_times(record) for record in records],
        "replay": lockstep.replay(task, result.folder, step=len(records)).divergence,
        "evaluated": lockstep.evaluate(task, result.folder)["test_loss"],
        "summary": result.summary["test_loss"],
    }
if os.environ["RANK"] == "0":
    print(json.dumps(results))
