"""Submits the job scripts as a user does, and waits for the outcome."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from lockstep.commands.job import FAILURES_FILE
from lockstep.runs import newest_checkpoint_step
from processes import BIN, QUICK, ROOT, read_run
from slurm_cluster import Cluster

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
OWN_SCRIPT = str(Path(__file__).parent / "own_script.py")
TWO_BY_TWO = ["--nodes=2", "--ntasks-per-node=2"]
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "5",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "node[1-3]",
}
"""The variables of the fourth of five tasks that srun started on three nodes."""
LONG = ["--train.epochs", "14", "--train.checkpoint-every", "4"]  # 42 steps, a checkpoint every 4


class Job:
    """One submitted job; its run folder is `folder`/run."""

    def __init__(self, cluster: Cluster, folder: Path, *words: str) -> None:
        self.cluster, self.folder, self.run = cluster, folder, folder / "run"
        self.output = folder / "output"
        self.id = cluster.run("sbatch", "--parsable", f"--output={self.output}", *words, cwd=ROOT)

    @property
    def facts(self) -> dict[str, str]:
        return self.cluster.job(self.id)

    @property
    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    @property
    def restarts(self) -> int:
        return int(self.facts["Restarts"])

    def wait_for(self, *states: str, seconds: float = 120) -> dict[str, str]:
        """Waits until the job is in one of the states; fails as soon as it ends in another."""
        facts: dict[str, str] = {}

        def is_there() -> bool:
            facts.update(self.facts)
            if facts["JobState"] in FINAL and facts["JobState"] not in states:
                raise AssertionError(f"job {self.id} is {facts['JobState']}: {self.text[-3000:]}")
            return facts["JobState"] in states

        try:
            self.cluster.wait(is_there, seconds, f"job {self.id} that is {states}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {facts['JobState']}: {self.text[-3000:]}") from error
        return facts

    def wait_for_step(self, step: int, seconds: float = 60) -> None:
        """Waits until the run has logged this number of steps."""
        metrics = self.run / "metrics.jsonl"

        def is_there() -> bool:
            state = self.facts["JobState"]
            assert state not in FINAL, f"{state}: {self.text[-3000:]}"
            return metrics.exists() and metrics.read_text().count("\n") >= step

        self.cluster.wait(is_there, seconds, f"step {step}: {self.text[-3000:]}")

    def assert_finished_as(self, reference: dict[str, Any], world_size: int = 4) -> dict[str, Any]:
        """Checks that it is COMPLETED, with the weights and losses of another run, and each step once."""
        facts = self.wait_for("COMPLETED")
        assert facts["ExitCode"] == "0:0"
        summary = read_run(self.run)
        assert summary["world_size"] == world_size
        assert self.world_sizes == {world_size}
        assert summary["weights_sha256"] == reference["weights_sha256"]
        assert summary["test_loss"] == reference["test_loss"]
        for name in ("step", "loss", "grad_norm"):
            assert [record.get(name) for record in summary["records"]] == [
                record.get(name) for record in reference["records"]
            ]
        return summary

    @property
    def world_sizes(self) -> set[int]:
        """The world sizes in the start-up lines of this job."""
        return {int(size) for size in re.findall(r"^lockstep: (\d+) x ", self.text, re.MULTILINE)}

    def newest_checkpoint(self) -> int:
        return newest_checkpoint_step(self.run)


def train_job(cluster: Cluster, folder: Path, *flags: str, options: list[str] | None = None) -> Job:
    """Submits slurm/train.sbatch with the quick run."""
    words = [*(TWO_BY_TWO if options is None else options), "slurm/train.sbatch", *QUICK]
    return Job(cluster, folder, *words, "--run.dir", str(folder), "--run.name", "run", *flags)


def script_job(cluster: Cluster, folder: Path, *flags: str, options: list[str]) -> Job:
    """Submits slurm/train.sbatch with a script that trains the quick run; the job's folder is in `folder`."""
    # Not in the repository's root, where the job would find .venv: so with the environment activated.
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    words = [
        *options,
        f"--export=ALL,LOCKSTEP_SCRIPT={OWN_SCRIPT},PATH={path}",
        f"--chdir={folder}",
        "slurm/train.sbatch",
    ]
    return Job(cluster, folder, *words, "--run.dir", str(folder), "--run.name", "run", *flags)


def wandb_ids(run: Path) -> set[str]:
    """The W&B runs that the offline logs in a run folder belong to."""
    return {path.stem.removeprefix("run-") for path in (run / "wandb").glob("offline-run-*/run-*.wandb")}


def failures(run: Path) -> dict[str, int]:
    return json.loads((run / FAILURES_FILE).read_text())
