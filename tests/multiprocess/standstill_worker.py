"""Trains with something of the user's that never returns, each in a process of its own, forked for speed.

The arguments are a folder, and what never returns; it prints how each process ended.
"""

import os
import sys
import time

import torch
from torch import nn
from torch.utils.data import Dataset

import lockstep

FOLDER, *ALL = sys.argv[1:]


def hang(what, is_so=True):
    if is_so and os.environ["WHAT"] == what:
        time.sleep(300)


class Numbers(Dataset):
    def __init__(self):
        hang("data")

    def __len__(self):
        return 32

    def __getitem__(self, index):
        hang("worker", torch.utils.data.get_worker_info() is not None)
        hang("sample", index == 0)
        return torch.ones(4), torch.ones(1)


class Slow(lockstep.Observer):
    def on_update(self, run):
        hang("observer", run.step == 2)

    def log(self, record):
        hang("log", record["step"] == 2)

    def close(self, status, reason=""):
        hang("close")


def metric(outputs, targets):
    hang("metric", not outputs.requires_grad)
    return outputs.sum()


class Model(nn.Linear):
    def __init__(self):
        hang("model")
        super().__init__(4, 1)

    def forward(self, inputs):
        hang("rehearsal")
        return super().forward(inputs)


def schedule(step, num_steps):
    hang("schedule", step == 2)
    return 1.0


TASK = lockstep.Task(
    name="numbers",
    model=Model,
    train=Numbers,
    test=Numbers,
    loss=nn.functional.mse_loss,
    metrics={"metric": metric},
)
WORDS = ["--run.timeout-seconds", "2", "--batch.global-size", "16"]
WORDS += ["--schedule.name", "standstill_worker:schedule", "--tracking.mode", "disabled", "--train.no-report"]
WORDS += ["--train.log-every", "1", "--run.dir", FOLDER]


def train(what):
    os.environ["WHAT"] = what
    words = [*WORDS, "--run.name", what, "--batch.micro-size", "auto" if what == "rehearsal" else "8"]
    words += ["--data.num-workers", "1" if what == "worker" else "0"]
    lockstep.train(TASK, lockstep.parse_config(words), observers=[Slow()], sinks=[Slow()])


if __name__ == "__main__":
    lockstep.train  # noqa: B018  # loads what all of them need
    processes = {}
    for what in ALL:
        processes[what] = os.fork()
        if not processes[what]:
            train(what)
            os._exit(0)
    for what, process in processes.items():
        print(what, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
