"""Joining and leaving the process group; what needs several processes is in tests/multiprocess."""

import contextlib
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from lockstep.errors import ConfigError, Interrupted, RankError
from lockstep.launch import read_launch
from lockstep.launch.process_group import join_ranks, start_ranks
from runs import fresh_ranks


def test_a_process_alone_is_the_main_rank_of_a_world_of_one():
    ranks = fresh_ranks()
    assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
    assert ranks.device.type == "cpu"
    assert ranks.num_threads == torch.get_num_threads()


def test_a_world_smaller_than_the_launch_is_refused():
    fresh_ranks()
    with pytest.raises(RankError, match=r"world size = 1: python was asked for 2; start the processes with"):
        start_ranks(replace(read_launch({"ACCELERATE_USE_CPU": "true"}), world_size=2), "no")


@pytest.mark.parametrize(
    ("error", "stays"),
    [(None, False), (ConfigError("x"), False), (Interrupted(3), False), (OSError("x"), True)],
)
def test_the_group_is_left_only_where_all_ranks_leave_it(error, stays):
    """After an error of this rank alone, leaving would wait for the others."""
    launch = read_launch({"ACCELERATE_USE_CPU": "true"})
    fresh_ranks()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
    try:
        with expected, join_ranks(launch, "no"):
            if error is not None:
                raise error
        assert dist.is_initialized() == stays
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
