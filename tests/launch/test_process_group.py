"""Joining and leaving the process group; what needs several processes is in tests/multiprocess."""

import contextlib
import os
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from lockstep.errors import ConfigError, Interrupted, RankError
from lockstep.launch import process_group, read_launch
from lockstep.launch.process_group import FOREVER, join_ranks, launch_of_group, start_ranks
from processes import free_port
from runs import fresh_ranks, reset_accelerator


def torchrun_of_one():
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    return {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}


def test_a_process_alone_is_the_main_rank_of_a_world_of_one():
    ranks = fresh_ranks()
    assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
    assert ranks.device.type == "cpu"
    assert ranks.num_threads == torch.get_num_threads()


def test_a_world_smaller_than_the_launch_is_refused():
    fresh_ranks()
    with pytest.raises(RankError, match=r"world size = 1: python was asked for 2; start the processes with"):
        start_ranks(replace(read_launch({"ACCELERATE_USE_CPU": "true"}), world_size=2), "no")


def test_a_world_size_without_a_rank_is_refused(monkeypatch):
    fresh_ranks()
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(RankError, match=r"WORLD_SIZE = 8: needs a RANK too, .* add --launcher none"):
        start_ranks(read_launch({"ACCELERATE_USE_CPU": "true"}), "no")


@pytest.mark.parametrize("error", [None, ConfigError("x"), Interrupted(3), OSError("x")])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_group_that_was_there_before_stays_and_another_does_not(monkeypatch, error, is_own):
    for name, value in torchrun_of_one().items():
        monkeypatch.setenv(name, value)
    reset_accelerator()
    if is_own:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    try:
        with expected, join_ranks(read_launch(), "no"):
            assert dist.is_initialized()
            if error is not None:
                raise error
        assert dist.is_initialized() == is_own
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        reset_accelerator()


def test_a_group_without_a_launchers_variables_says_who_is_who(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    launch = read_launch({"ACCELERATE_USE_CPU": "true"})
    assert launch_of_group(launch) is launch
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = launch_of_group(launch)
        assert (found.launcher, found.rank, found.world_size, found.wants_cpu) == ("program", 0, 1, True)
    finally:
        dist.destroy_process_group()


def test_on_cuda_cublas_is_told_before_any_model_is_made_and_nccl_waits_for_a_debugger(monkeypatch):
    """A model that is made on CUDA computes before its run asks for deterministic kernels."""
    for name, value in {**torchrun_of_one(), "WORLD_SIZE": "2", "CUBLAS_WORKSPACE_CONFIG": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    limits = []

    def join(launch, backend, limit_seconds, step_limit):
        assert (backend, os.environ.get("CUBLAS_WORKSPACE_CONFIG")) == ("nccl", ":4096:8")
        limits.append(step_limit)
        raise Interrupted(0)

    monkeypatch.setattr(process_group, "join_new_group", join)
    for debugs in (False, True):
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        with pytest.raises(Interrupted):
            start_ranks(read_launch(os.environ | {"ACCELERATE_USE_CPU": "false"}), "no", 5, debugs=debugs)
    assert limits[0].total_seconds() < 100
    assert limits[1] == FOREVER
