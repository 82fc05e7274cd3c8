"""`batch.micro_size: auto`, on models that run out of memory."""

import resource
import sys
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch
from torch import nn

import lockstep
import tasks
from lockstep.config import BatchConfig, DataConfig, ModelConfig, RunConfig, TrackingConfig, TrainConfig
from lockstep.errors import ConfigError, RankFailed
from lockstep.runs import read_metrics, read_settings
from runs import reset_accelerator, small_config

STEPS = TrainConfig(steps=3, log_every=1, checkpoint_every=2, report=False)
AUTO = BatchConfig(global_size=64, micro_size="auto")


@pytest.fixture(autouse=True)
def _own_accelerator():
    reset_accelerator()


class Limited(nn.Linear):
    """A line on a device that has room for so many samples."""

    def __init__(self, limit):
        super().__init__(1, 1)
        self.limit = limit

    def forward(self, x):
        if self.training and len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
        return super().forward(x)


class OthersFillTheDevice(lockstep.Observer):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, run):
        if run.step == self.step:
            run.model.limit = 0


def config_of(folder, **changes):
    settings = {"data": DataConfig(), "model": ModelConfig(), "tracking": TrackingConfig(mode="disabled")}
    settings |= {"run": RunConfig(dir=str(folder)), "batch": AUTO, "train": STEPS}
    return small_config(folder, **settings | changes)


def train(limit, config, **options):
    return lockstep.train(tasks.line(model=lambda: Limited(limit)), config, **options)


def test_the_largest_size_that_fits_is_found_and_kept(tmp_path):
    found = train(4, config_of(tmp_path))
    assert read_settings(found.folder)["batch"]["micro_size"] == 4
    again = train(2, config_of(tmp_path))
    assert (again.was_finished, again.folder) == (True, found.folder)
    stated = train(64, config_of(tmp_path, batch=BatchConfig(global_size=64, micro_size=4)))
    assert stated.folder != found.folder  # the name is derived from what was asked for
    assert stated.summary["weights_sha256"] == found.summary["weights_sha256"]
    assert stated.summary["peak_host_bytes"] >= read_metrics(stated.folder)[-1]["peak_host_bytes"] > 50e6
    largest = train(64, config_of(tmp_path / "other"))
    assert read_settings(largest.folder)["batch"]["micro_size"] == 8  # eight slots stay


def test_what_does_not_fit_at_all_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"batch.micro_size = 'auto': a micro-batch of 1 does not fit"):
        train(0, config_of(tmp_path))


@pytest.mark.parametrize(
    ("step", "remedy"),
    [
        (1, "lower it for a new run, or let it be auto (CUDA out of memory. Tried to allocate 2.00 GiB.)"),
        (2, "this run keeps that size, so continue it on a device with more memory; or start a new run"),
    ],
)
def test_running_out_of_memory_later_names_the_setting(tmp_path, step, remedy):
    """After step 2 there is a checkpoint."""
    with pytest.raises(RankFailed) as failure:
        train(4, config_of(tmp_path), observers=[OthersFillTheDevice(step)])
    assert f"out of memory with batch.micro_size = 4: {remedy}" in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1


class Hungry(nn.Linear):
    """A line that takes 256 MiB a sample, by torch or NumPy, and touches none of it."""

    def __init__(self, take):
        super().__init__(1, 1)
        self.take = take

    def forward(self, x):
        if self.training:
            self.take(len(x) * 2**28)
        return super().forward(x)


@contextmanager
def limited_memory(more_bytes):
    """The limit that `ulimit -v` sets: what this process has now, and so much more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
@pytest.mark.parametrize(
    "take",
    [lambda size: torch.empty(size, dtype=torch.uint8), lambda size: np.empty(size, np.uint8), bytearray],
    ids=["torch", "NumPy", "Python"],
)
def test_memory_of_the_host_is_memory_too(tmp_path, take):
    task = tasks.line(model=lambda: Hungry(take))
    with limited_memory(3 * 2**29):  # room for four samples, of the eight that are tried first
        found = lockstep.train(task, config_of(tmp_path))
    assert read_settings(found.folder)["batch"]["micro_size"] == 4
