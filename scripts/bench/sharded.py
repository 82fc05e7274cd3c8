"""What a sharded optimizer saves: bytes of its state and peak memory of a rank, for 50 million parameters.

Each row is one team of processes under torchrun, which takes three steps with AdamW. Its ranks' final weights
must have the same bits as every other team's. Seconds are not measured: ranks on CPUs share the cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import torch
from torch import nn
from torch.cuda import device_count
from torch.utils.data import TensorDataset

import lockstep
from harness import Bench, main
from lockstep.config import BatchConfig, Config, OptimizerConfig
from lockstep.engine import peak_memory, take_step
from lockstep.launch import read_launch
from lockstep.launch.process_group import start_ranks
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.trainer import build_run, find_task, make_parts, with_task
from results import Row

NUM_LAYERS, WIDTH, QUICK_WIDTH = 12, 2048, 64
NUM_STEPS = 3


def measure(bench: Bench) -> list[Row]:
    """Two rows for each team."""
    worlds: tuple[int, ...] = (1, 2) if bench.is_quick else (1, 2, 4)
    if bench.ranks.device.type == "cuda":
        worlds = tuple(each for each in worlds if each <= device_count())
    teams = [(1, False), *((world, flag) for world in worlds[1:] for flag in (False, True))]
    rows, digests = [], set()
    for world, is_sharded in teams:
        width = QUICK_WIDTH if bench.is_quick else WIDTH
        facts = measured_by(world, width, is_sharded)
        digests.add(facts["digest"])
        who = f"{'a process alone' if world == 1 else f'{world} processes'}{', sharded' * is_sharded}"
        rows += [
            Row(what=f"{who}: optimizer state of a rank", value=facts["state"] / 1e6, unit="MB"),
            Row(what=f"{who}: peak memory of a rank", value=facts["peak"] / 1e6, unit="MB"),
        ]
    assert len(digests) == 1, "the teams' weights differ"
    return rows


def measured_by(world: int, width: int, is_sharded: bool) -> dict[str, Any]:
    """What the main rank of a team reports."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)]
    command += [__file__, str(width), str(int(is_sharded))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return facts


def report(width: int, is_sharded: bool) -> None:
    """Takes the steps as one rank; the main rank prints what the rank with the most has."""
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(*(torch.randn(64, width, generator=generator) for _ in range(2)))
    task = lockstep.Task(
        name="wide",
        model=lambda: nn.Sequential(*(nn.Linear(width, width) for _ in range(NUM_LAYERS))),
        train=lambda: data,
        loss=nn.functional.mse_loss,
        metrics={},
    )
    config = Config(
        precision="no",
        batch=BatchConfig(global_size=16, micro_size=4),
        optimizer=OptimizerConfig(name="adamw", sharded=is_sharded),
    )
    ranks = start_ranks(read_launch(), "no")
    config, task = find_task(with_task(config, task), task)
    run = build_run(config, ranks, make_parts(config, task, ranks))
    with run.closing:
        run.model.train()
        for _ in range(NUM_STEPS):
            take_step(run)
        entries = (value for entry in run.optimizer.state.values() for value in entry.values())
        state = sum(value.nbytes for value in entries if isinstance(value, torch.Tensor))
        states, peaks = ranks.gather_objects(state), peak_memory(ranks)
        facts = {
            "state": max(states),
            "peak": peaks.get("peak_device_bytes", peaks["peak_host_bytes"]),
            "digest": weights_sha256(run.model.state_dict()),
        }
    if ranks.is_main:
        print(json.dumps(facts), flush=True)
    ranks.close()


if __name__ == "__main__":
    if "RANK" in os.environ:
        report(int(sys.argv[1]), bool(int(sys.argv[2])))
    else:
        main(measure)
