"""Reads a `.wandb` file: what the client would upload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockstep.tracking.offline.wandb_file import read_wandb_file


def read_wandb(path: Path) -> dict[str, Any]:
    """A file's run id, group, job type, config, summary, alerts, history (step → metrics) and exit code.

    The exit code is None if the run was not closed; the id is empty if a kill left nothing.
    """
    found: dict[str, Any] = {"id": "", "config": {}, "summary": {}, "alerts": [], "history": {}}
    found["exit_code"] = None
    for record in read_wandb_file(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "group": record.run.run_group, "job_type": record.run.job_type}
            updates = record.run.config.update
            found["config"] |= {item.key: json.loads(item.value_json) for item in updates if item.key}
        elif kind == "summary":
            found["summary"] |= {item.key: json.loads(item.value_json) for item in record.summary.update}
        elif kind == "alert":
            found["alerts"].append(record.alert.text)
        elif kind == "history":
            items = {
                (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            assert record.history.step.num not in found["history"], "a step was logged twice"
            found["history"][record.history.step.num] = items
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found
