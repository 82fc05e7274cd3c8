"""Worker processes: how they start, and what is said if they cannot, die, or are too many."""

import gc
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import default_collate

import reading_tasks
from lockstep.config import DataConfig
from lockstep.data import worker_warnings
from lockstep.data.reading.keyed_reader import KeyedReader
from lockstep.data.reading.worker_deaths import reported_deaths
from lockstep.data.reading.workers import Workers
from lockstep.data.samples.dataset_samples import EvaluationReader
from lockstep.errors import ConfigError, DataError

CPU = torch.device("cpu")


def evaluation_of(dataset):
    return EvaluationReader(KeyedReader(field="task.test", dataset=dataset, collate=default_collate, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_read_the_same_and_ignore_what_stops_a_run(context):
    reader = evaluation_of(reading_tasks.Albumented(9, transform=reading_tasks.albumentations_transform()))
    config = DataConfig(num_workers=1, worker_context=context)
    ids = [range(4), range(4, 9)]
    with Workers(reader, (), config, CPU) as workers:
        (worker,) = multiprocessing.active_children()
        for number in signal.SIGTERM, signal.SIGUSR1, signal.SIGINT:
            os.kill(worker.pid, number)
        for _ in range(2):
            for batch, each in zip(workers.read(ids), ids, strict=True):
                assert torch.equal(batch[0], reader[each][0])
    assert multiprocessing.active_children() == []


def test_a_data_set_that_cannot_be_sent_is_refused():
    dataset = reading_tasks.Photographs(transform=lambda image: image)
    config = DataConfig(num_workers=1, worker_context="spawn")
    rule = r"data\.worker_context = 'spawn': cannot send the data set to the workers \(.*lambda.*\); use fork"
    with pytest.raises(ConfigError, match=rule):
        Workers(evaluation_of(dataset), (), config, CPU)


def test_a_worker_that_dies_ends_the_reading_in_one_line():
    reader = evaluation_of(reading_tasks.Failing(5, is_killed=True))
    with Workers(reader, (), DataConfig(num_workers=2), CPU) as workers:
        rule = r"^a process that reads the data has died: DataLoader worker .*; if the machine was short of"
        with pytest.raises(DataError, match=rule) as failure, reported_deaths():
            list(workers.read([range(3), range(3, 6), range(6, 9)]))
    assert "\n" not in str(failure.value)


TENSORS = [
    torch.arange(32),
    torch.tensor(3.0),
    torch.randn(2, 1, 4, 4).to(memory_format=torch.channels_last),
    torch.randn(4, 5).bfloat16(),
    torch.zeros(0, 3),
    torch.randn(10, 10)[:, 3:4],
    torch.arange(4).expand(3, 4),
    (torch.randn(3) + 1j).conj(),
    torch.arange(6)[::2][:1],  # a column of a batch of one
    torch.randn(2**15),
]


class Handed(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return TENSORS


def test_small_tensors_come_as_they_were_in_memory_of_their_own():
    with Workers(Handed(), (), DataConfig(num_workers=1), CPU) as workers:
        (handed,) = workers.read([0])
    for one, other in zip(handed, TENSORS, strict=True):
        assert torch.equal(one, other)
        assert (one.dtype, one.stride()) == (other.dtype, other.stride())
    assert [each.is_shared() for each in handed[:4]] == [False] * 4
    assert all(each.data_ptr() % 64 == 0 for each in handed[:4])  # as torch allocates: bits may depend on it
    assert handed[-1].is_shared()


class Unsendable(torch.utils.data.Dataset):
    """Its items cannot be handed over, as when the shared memory is full: in a thread of the worker's."""

    def __getitem__(self, key):
        return self

    def __reduce__(self):
        raise RuntimeError("no space left")


def test_a_worker_that_cannot_hand_over_what_it_read_ends_the_reading(capfd):
    rule = r"has died: DataLoader worker .* exited unexpectedly"
    with (
        Workers(Unsendable(), (), DataConfig(num_workers=1), CPU) as workers,
        pytest.raises(DataError, match=rule),
    ):
        list(workers.read([0]))
    assert capfd.readouterr().err == (
        "lockstep: a process that reads the data cannot send it: no space left\n"
    )


def test_little_shared_memory_is_told(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=64 * 10**6))
    with pytest.raises(DataError, match=r"; /dev/shm has only 64 MB: make it larger"), reported_deaths():
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. It is possible that")


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_reader_with_it():
    """torch tells of a dead worker wherever the program is: here as other readers start and end."""
    config = DataConfig(num_workers=1)
    failing = evaluation_of(reading_tasks.Failing(0, is_killed=True))
    with Workers(failing, [range(3)], config, CPU) as dying:
        for _ in range(3):
            with suppress(DataError), Workers(failing, (), config, CPU):
                pass
        with pytest.raises(DataError, match="has died"):
            next(dying)
    assert multiprocessing.active_children() == []


class Stuck(reading_tasks.Photographs):
    def __getitem__(self, index):
        time.sleep(100)


class CollectsGarbage(reading_tasks.Photographs):
    def __getitem__(self, index):
        gc.collect()
        return super().__getitem__(index)


class Freed:
    """Writes down which process frees it."""

    def __init__(self, path):
        self.path, self.itself = path, self  # a cycle, which only the collector frees

    def __del__(self):
        self.path.write_text(str(os.getpid()))


def test_a_worker_never_frees_what_was_garbage_when_it_started(tmp_path):
    """It may be a process group of an earlier run, whose end waits for threads that a fork does not have."""
    gc.disable()
    try:
        Freed(tmp_path / "freed")
        with Workers(evaluation_of(CollectsGarbage()), (), DataConfig(num_workers=1), CPU) as workers:
            assert len(list(workers.read([range(2)]))) == 1
        assert not (tmp_path / "freed").exists()
        gc.enable()
        gc.collect()
        assert (tmp_path / "freed").read_text() == str(os.getpid())
    finally:
        gc.enable()


@pytest.mark.slow
def test_a_worker_that_is_stuck_is_ended():
    workers = Workers(evaluation_of(Stuck()), [range(3)], DataConfig(num_workers=1), CPU)
    begin = time.monotonic()
    workers.close()
    assert time.monotonic() - begin < 20
    assert multiprocessing.active_children() == []


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="mine"), reported_deaths():
        raise RuntimeError("mine")


def test_reading_draws_nothing_from_the_generators_of_the_program():
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        with Workers(
            evaluation_of(reading_tasks.WithNoise()), (), DataConfig(num_workers=num_workers), CPU
        ) as it:
            next(it.read([range(3)]))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_that_are_too_many_for_a_node_or_not_used_are_told():
    assert worker_warnings(DataConfig(num_workers=2), True, num_ranks=4, num_cores=8) == []
    assert worker_warnings(DataConfig(), False, num_ranks=4, num_cores=2) == []
    (warning,) = worker_warnings(DataConfig(num_workers=3), True, num_ranks=4, num_cores=8)
    assert warning == "data.num_workers = 3 for each of 4 ranks makes 12 workers on a node with 8 cores"
    (warning,) = worker_warnings(DataConfig(num_workers=1), False, num_ranks=1, num_cores=2)
    assert warning == "data.num_workers = 1 is not used: all data is on the device"
