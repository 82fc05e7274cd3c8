"""The exchange in two levels gives the bits of the exchange in one, in ranks that are threads."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _set_thread_isolation_mode
from torch.testing._internal.distributed import multi_threaded_pg

from lockstep.engine.reduction.exchange import exchange_in_tree
from lockstep.launch.ranks.node_groups import make_node_groups

WORLD_SIZE = 8
pytestmark = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 15),
    reason="torch's ranks that are threads cannot leave their group in older versions",
)


@pytest.fixture
def in_threads():
    """Runs a function of a rank in a thread for each rank, which share a process group."""
    _set_thread_isolation_mode(True)
    multi_threaded_pg._install_threaded_pg()

    def as_rank(function, rank, store):
        dist.init_process_group("threaded", rank=rank, world_size=WORLD_SIZE, store=store)
        try:
            function(rank)
        finally:
            dist.destroy_process_group()

    def run(function):
        store = dist.HashStore()
        with ThreadPoolExecutor(WORLD_SIZE) as threads:
            for each in [threads.submit(as_rank, function, rank, store) for rank in range(WORLD_SIZE)]:
                each.result(timeout=60)

    yield run
    multi_threaded_pg._uninstall_threaded_pg()
    _set_thread_isolation_mode(False)


@pytest.mark.parametrize("per_node", [2, 4])
def test_two_levels_give_the_bits_of_one_however_many_ranks_are_active(in_threads, per_node):
    def compare(rank):
        nodes = make_node_groups(rank, [each % per_node for each in range(WORLD_SIZE)], timedelta(seconds=60))
        assert (nodes.within.size(), nodes.across.size()) == (per_node, WORLD_SIZE // per_node)
        own = torch.randn(3 * WORLD_SIZE, generator=torch.Generator().manual_seed(rank)) * 10 ** (rank % 5)
        for num_active in range(1, WORLD_SIZE + 1):
            one, two = (own.clone() if rank < num_active else torch.zeros_like(own) for _ in range(2))
            if rank < num_active:
                one[0] = two[0] = -0.0  # an idle rank's 0 would turn it into 0
            exchange_in_tree(one, WORLD_SIZE, num_active, None)
            exchange_in_tree(two, WORLD_SIZE, num_active, nodes)
            assert torch.equal(one.view(torch.int32), two.view(torch.int32)), num_active

    in_threads(compare)
