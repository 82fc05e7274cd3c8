"""The digest of a data set, which W&B's artifact refers to and a background thread computes."""

import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.data import Dataset, ImageSamples, describe_data, load_dataset
from runs import small_config


def description(dataset: Dataset) -> dict[str, object]:
    train, test = (ImageSamples(images=images) for images in (dataset.train, dataset.test))
    return describe_data(dataset.name, train, test)


def test_the_digest_of_the_data_is_of_every_sample():
    config = small_config().data
    dataset, other = (load_dataset(config, seed=0) for _ in range(2))
    assert description(dataset) == description(other)
    other.test.labels[-1] += 1
    assert description(dataset)["sha256"] != description(other)["sha256"]


def test_the_digest_stays_what_it_was():
    """Else W&B would take the data of an old run and of a new one for two data sets."""
    assert description(load_dataset(small_config().data, seed=0)) == {
        "name": "synthetic",
        "num_train": 600,
        "num_test": 512,
        "sha256": "7db14a4174d49c9eb6145ecfe5edb632ad9f27e534f28eeab91eaa2317f3c866",
    }


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_the_digest_in_the_background_starts_no_openmp_threads():
    """A second team of them makes each region of the training wait in the kernel: twice the time a step."""
    program = """
import os, sys, threading, torch
from lockstep.config import DataConfig
from lockstep.data import ImageSamples, describe_data, load_dataset
torch.set_num_threads(2)
dataset = load_dataset(DataConfig(name="synthetic"), seed=0)
train, test = (ImageSamples(images=images) for images in (dataset.train, dataset.test))
torch.ones(1000, 1000).add_(1)  # training's own team
before, counts = len(os.listdir("/proc/self/task")), []
def work():
    describe_data("synthetic", train, test)
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
