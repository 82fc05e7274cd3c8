"""`--processes N`: starts a command as N ranks on this machine, without a launcher.

It is the part of torchrun that starts and watches processes. Unlike torchrun it passes exit codes on, and it
leaves the ranks their time to save a checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, start_processes

from lockstep.errors import counted, require
from lockstep.launch.launcher.variables import read_launch
from lockstep.launch.liveness.last_words import leave_words
from lockstep.launch.process.stop_signals import STOP_SIGNALS

POLL_SECONDS = 0.1


def run_local_ranks(num_processes: int, words: list[str]) -> int:
    """Runs `lockstep WORDS` as ranks that meet on this machine, on CUDA one for each GPU; its exit code.

    Each has one thread, unless OMP_NUM_THREADS is set, as under torchrun: so the bits are the same.

    Raises:
        ConfigError: a launcher has started this process, or there are fewer GPUs.
    """
    launch = read_launch()
    rule = f"is for a start without a launcher, and this is one by {launch.launcher}; leave it out"
    require("RANK" not in os.environ and launch.world_size == 1, "--processes", num_processes, rule)
    num_gpus = 0 if launch.wants_cpu else torch.cuda.device_count()
    rule = f"each process needs a GPU, and this machine has {counted(num_gpus, 'GPU')}; start fewer"
    require(num_gpus == 0 or num_processes <= num_gpus, "--processes", num_processes, rule)
    # The store on which the ranks meet is this process's, so no port has to be free until they start.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    ranks = range(num_processes)
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # Not what is ignored: nohup ignores SIGHUP, so that a run outlives its terminal.
    heeded = [each.name for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(heeded)
    with TemporaryDirectory(prefix="lockstep-") as logs:
        processes = start_processes(
            name="lockstep",
            entrypoint=sys.executable,
            args=dict.fromkeys(ranks, ("-m", "lockstep", *words)),
            envs={rank: {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        result = None
        while result is None:
            try:
                result = processes.wait(period=POLL_SECONDS)
            except SignalException as stop:  # the ranks save a checkpoint and end by themselves
                pass_on(stop.sigval, list(processes.pids().values()))
    if not result.is_failed():
        return 0
    first = min(result.failures.values(), key=lambda failure: failure.timestamp)
    code = first.exitcode
    if code == -signal.SIGKILL:
        remedy = "if nobody did it, the kernel has, for memory: lower batch.micro_size or data.num_workers"
        leave_words(f"lockstep: rank {first.local_rank} was killed by SIGKILL; {remedy}")
    return code if code > 0 else 128 - code  # as a shell reports a process that a signal has ended


def pass_on(number: signal.Signals, pids: list[int]) -> None:
    """Sends a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
