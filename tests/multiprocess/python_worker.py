"""A program that trains several times in its processes; its arguments are a way to do so and a folder."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator

import lockstep

FOLDER = Path(sys.argv[2])


def config(name, *flags):
    words = ["--config", "configs/debug.yaml", "--train.epochs", "1", "--train.no-report"]
    words += ["--model.name", "mlp", "--batch.micro-size", "16"]
    words += ["--run.dir", str(FOLDER), "--run.name", name, *flags]
    return lockstep.parse_config(words)


def digest(name, *flags):
    return lockstep.train(config(name, *flags)).summary["weights_sha256"]


def num_ranks_that_answer():
    total = torch.ones(1)
    if dist.is_initialized():
        dist.all_reduce(total)
    return int(total.item())


def train_twice():
    """A run after another, of another precision, after one that was refused, and a group of the program's."""
    assert digest("a", "--precision", "no") != digest("b", "--precision", "bf16")
    assert not dist.is_initialized()
    with pytest.raises(lockstep.ConfigError, match=r"augment.shift_pixels"):
        lockstep.train(config("a", "--augment.shift-pixels", "1"))  # after the ranks have joined
    assert digest("a", "--precision", "no") == digest("c", "--precision", "no")
    assert not dist.is_initialized()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    assert accelerator.num_processes == num_ranks_that_answer()
    accelerator.end_training()


def train_in_own_group():
    """Runs inside of a group that the program made, which it goes on using."""
    accelerator = Accelerator(cpu=True)
    world_size = accelerator.num_processes
    assert digest("a") == digest("b")
    assert num_ranks_that_answer() == world_size
    assert accelerator.gather(torch.ones(1)).sum() == world_size
    accelerator.end_training()
    assert digest("c") == digest("a")
    assert not dist.is_initialized()


def train_spawned(rank, world_size):
    """Processes of torch.multiprocessing: no launcher, and none of its variables."""
    store = f"file://{FOLDER}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    result = lockstep.train(config("a"))
    assert result.summary["world_size"] == num_ranks_that_answer() == world_size
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "spawned":
        torch.multiprocessing.spawn(train_spawned, args=(2,), nprocs=2)
    else:
        {"twice": train_twice, "own-group": train_in_own_group}[sys.argv[1]]()
