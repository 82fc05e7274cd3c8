"""Runs Lockstep in real processes, as a user does, and reads the results."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from forked import BIN, Popen

ROOT = Path(__file__).parent.parent.parent
SCRIPT = str(ROOT / "scripts" / "train.py")

# A quick run on generated data: per epoch, 600 samples make two full steps and a short one of 88.
QUICK = [
    *("--data.name", "synthetic", "--data.num-train", "600", "--train.epochs", "2", "--train.log-every", "1"),
    *("--tracking.mode", "disabled", "--train.no-report"),
]


def lockstep(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `lockstep ARGUMENTS` in one process."""
    return run([str(BIN / "lockstep"), *arguments], **options)


def launched(num_processes: int, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `accelerate launch scripts/train.py ARGUMENTS` on `num_processes` processes."""
    return run([*launch_words(num_processes), SCRIPT, *arguments], **options)


def launch_words(num_processes: int) -> list[str]:
    """The words of `accelerate launch` up to the script."""
    words = [str(BIN / "accelerate"), "launch", "--num_machines", "1", "--mixed_precision", "no"]
    words += ["--dynamo_backend", "no", "--num_processes", str(num_processes)]
    if num_processes > 1:
        words += ["--multi_gpu", "--main_process_port", str(free_port())]
    return words


def workers(
    num_processes: int, script: str, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a script of tests/multiprocess under torchrun, for checks inside the processes."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]  # torchrun may lie elsewhere
    words += ["--nproc_per_node", str(num_processes)]
    script = str(ROOT / "tests" / "multiprocess" / script)
    return run([*words, script, *arguments], env=with_support(), **options)


def with_support() -> dict[str, str]:
    """The variable that lets a process import what is in tests/support, besides what this one imports."""
    path = [str(ROOT / "tests" / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


def exact_fingerprints(num_processes: int, *arguments: str) -> Any:
    """Runs exact_worker.py on `num_processes` processes; returns digests of weights and records, by run."""
    result = workers(num_processes, "exact_worker.py", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def any_model_fingerprints(num_processes: int, *arguments: str) -> Any:
    """Runs any_model_worker.py on `num_processes` processes; returns digests of weights, by model."""
    result = workers(num_processes, "any_model_worker.py", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def on_two_ranks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `lockstep ARGUMENTS` under torchrun on two processes."""
    return run([str(BIN / "torchrun"), "--nproc_per_node=2", "--standalone", "-m", "lockstep", *arguments])


def run(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
    timeout: float = 240,
    popen: type[subprocess.Popen] = Popen,
    typed: str | None = None,
) -> Any:
    """Runs a command and captures its output as text; never raises for its exit code.

    Args:
        typed: what it reads from stdin; None: nothing.
        popen: subprocess.Popen for a new interpreter, where a test is about the start or end of a process.
    """
    environment = {**os.environ, **(env or {})}
    pipe = subprocess.PIPE
    files = {"stdin": subprocess.DEVNULL if typed is None else pipe, "stdout": pipe, "stderr": pipe}
    with popen(command, cwd=cwd, env=environment, text=True, **files) as process:
        try:
            stdout, stderr = process.communicate(typed, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def train_quick(folder: Path, name: str, num_processes: int = 1, *arguments: str) -> dict[str, Any]:
    """Trains the quick run on `num_processes` processes; returns what `read_run` does."""
    flags = ["--run.dir", str(folder), "--run.name", name]
    if num_processes == 1:
        result = lockstep("train", *QUICK, *flags, *arguments)
    else:
        result = launched(num_processes, *QUICK, *flags, *arguments)
    assert result.returncode == 0, result.stderr + result.stdout
    return read_run(folder / name)


def read_run(folder: Path) -> dict[str, Any]:
    """A finished run's summary, with its metrics under 'records'."""
    summary = json.loads((folder / "summary.json").read_text())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {**summary, "records": [json.loads(line) for line in lines]}


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """The record without its times and memory, which differ between equal runs."""
    return {
        key: value for key, value in record.items() if not key.endswith(("_seconds", "_per_second", "_bytes"))
    }


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
