"""Streamed training images: the same windows as resident ones, and workers that live as long as the run."""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from forked import Popen
from image_files import synthetic_files
from lockstep.config import AugmentConfig, BatchConfig, DataConfig, ModelConfig
from lockstep.data import Prefetcher, SpanReader, load_dataset, normalised, resident_spans, windows
from lockstep.data.images.augment import Augment
from lockstep.engine import take_step
from lockstep.errors import DataError
from lockstep.launch import STOP_SIGNALS
from lockstep.plan import Plan
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from processes import with_support
from runs import small_config, small_run

CPU = torch.device("cpu")
AUGMENT = Augment(config=AugmentConfig(shift_pixels=2, rotate_degrees=10, cutout_pixels=6), seed=3)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


@pytest.fixture
def files(tmp_path):
    return load_dataset(synthetic_files(tmp_path), seed=0).train


def with_workers(count):
    return DataConfig(num_workers=count)


def make_plan(world_size=1):
    """Nine full steps and a short one of 24 samples an epoch."""
    batch = BatchConfig(global_size=64, micro_size=16)
    return Plan(seed=3, num_samples=600, batch=batch, world_size=world_size)


@pytest.mark.parametrize(
    ("rank", "world_size", "num_workers", "first_step"),
    [(0, 1, 0, 3), (0, 1, 1, 0), (0, 1, 2, 13), (1, 2, 2, 7)],
)
def test_windows_are_the_resident_ones(monkeypatch, files, rank, world_size, num_workers, first_step):
    monkeypatch.setattr(
        "lockstep.data.prefetch.SPAN_SAMPLES", 200
    )  # several spans an epoch, the last a short one
    plan = make_plan(world_size)
    resident = resident_spans(files.load().read, plan, rank, first_step, CPU)
    with Prefetcher(SpanReader(files, plan, rank, first_step), CPU, with_workers(num_workers)) as streamed:
        pair = [
            windows(spans, plan, rank, first_step, prepare=normalised, augment=AUGMENT)
            for spans in (resident, streamed)
        ]
        for expected, window in islice(zip(*pair, strict=True), 25):
            for one, other in zip(expected, window, strict=True):
                for name, value in vars(one).items():
                    is_tensor = isinstance(value, torch.Tensor)
                    same = torch.equal if is_tensor else operator.eq
                    assert same(value, getattr(other, name)), name


def test_weights_are_those_of_the_resident_run(tmp_path):
    def digest(data):
        run, _ = small_run(small_config(data=data, model=ModelConfig(name="mlp", dropout=0.2)))
        with run.closing:
            for _ in range(12):  # over the short step at the end of the epoch
                take_step(run)
        return weights_sha256(run.model.state_dict())

    streamed = synthetic_files(tmp_path)
    assert digest(streamed) == digest(replace(streamed, storage="resident"))


def test_workers_ignore_what_stops_a_run_and_end_with_it(files):
    with Prefetcher(SpanReader(files, make_plan(), 0, 0), CPU, with_workers(2)) as spans:
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        for number in STOP_SIGNALS:
            for worker in workers:
                os.kill(worker.pid, number)
        for _ in range(10):
            next(spans)
        assert all(worker.is_alive() for worker in workers)
    assert multiprocessing.active_children() == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_worker_that_dies_is_an_error_and_no_hang(files):
    with Prefetcher(SpanReader(files, make_plan(), 0, 0), CPU, with_workers(1)) as spans:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(DataError, match="data has died: DataLoader worker"):
            list(islice(spans, 100))


def test_a_file_that_fails_is_named(files):
    with Prefetcher(SpanReader(files, make_plan(), 0, 0), CPU, with_workers(1)) as spans:
        os.truncate(files.images.path, 1000)
        with pytest.raises(DataError, match=f"{files.images.path.name} has become shorter"):
            list(islice(spans, 10))


PROGRAM = """
import multiprocessing, sys, time
from pathlib import Path
import torch
from image_files import synthetic_files
from lockstep.config import BatchConfig, DataConfig
from lockstep.data import load_dataset
from lockstep.plan import Plan
from lockstep.data import Prefetcher, SpanReader
files = load_dataset(synthetic_files(Path(sys.argv[1])), seed=0).train
plan = Plan(seed=0, num_samples=600, batch=BatchConfig(), world_size=1)
spans = Prefetcher(SpanReader(files, plan, 0, 0), torch.device("cpu"), DataConfig(num_workers=1))
next(spans)
print(multiprocessing.active_children()[0].pid, flush=True)
if sys.argv[2] == "fails":
    raise ValueError("a failure that closes nothing")
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["fails", "is killed"])
def test_workers_do_not_outlive_their_process(tmp_path, end):
    words = [sys.executable, "-c", PROGRAM, str(tmp_path), end]
    environment = {**os.environ, **with_support()}
    process = Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    worker = int(process.stdout.readline())
    if end == "is killed":
        process.kill()
    _, errors = process.communicate(timeout=5)  # the pipes are open for as long as the worker is there
    assert process.returncode == (-signal.SIGKILL if end == "is killed" else 1), errors
    deadline = time.monotonic() + 2
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{worker}").exists()
