"""How many threads a rank gets: those of the start before, if the cores suffice."""

import os

import torch

from lockstep.errors import counted
from lockstep.launch import num_cores
from lockstep.launch.process.process_state import restored_process_state
from lockstep.launch.ranks.threads import fullest_node, with_threads
from runs import fresh_ranks


def test_the_threads_of_the_start_before_are_taken_over_if_the_cores_suffice():
    ranks = fresh_ranks()
    cores = num_cores()
    assert fullest_node(ranks) == (1, cores)
    with restored_process_state():
        more, shortage = with_threads(ranks, cores)
        assert (more.num_threads, torch.get_num_threads(), shortage) == (cores, cores, "")
        assert os.environ["OMP_NUM_THREADS"] == str(cores)
        same, shortage = with_threads(more, cores + 1)
        assert same is more
        assert shortage == f"1 rank x {cores + 1} threads exceed the {counted(cores, 'core')} of a node"
        assert with_threads(more, 1)[0].num_threads == 1
