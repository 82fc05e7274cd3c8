"""The digest of a data set, which W&B's artifact refers to and a background thread computes."""

import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.data import load_dataset
from runs import small_config


def test_the_digest_of_the_data_is_of_every_sample():
    config = small_config().data
    dataset, other = (load_dataset(config, seed=0) for _ in range(2))
    assert dataset.description() == other.description()
    other.test.labels[-1] += 1
    assert dataset.description()["sha256"] != other.description()["sha256"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_the_digest_in_the_background_starts_no_openmp_threads():
    """A second team of them makes each region of the training wait in the kernel: twice the time a step."""
    program = """
import os, sys, threading, torch
from lockstep.config import DataConfig
from lockstep.data import load_dataset
torch.set_num_threads(2)
dataset = load_dataset(DataConfig(name="synthetic"), seed=0)
torch.ones(1000, 1000).add_(1)  # training's own team
before, counts = len(os.listdir("/proc/self/task")), []
def work():
    dataset.description()
    counts.append(len(os.listdir("/proc/self/task")))
    dataset.train.read(torch.arange(2048))  # what would start one
    counts.append(len(os.listdir("/proc/self/task")))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(before, *counts)
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    before, after_digest, after_torch = map(int, result.stdout.split())
    assert after_digest == before + 1  # the thread itself
    assert after_torch > after_digest
