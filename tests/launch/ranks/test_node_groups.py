"""Which ranks share a node, as far as an exchange in two levels can use it."""

import pytest

from lockstep.launch.ranks.node_groups import ranks_per_node


@pytest.mark.parametrize(
    ("local_ranks", "size"),
    [
        ([0, 1, 0, 1], 2),
        ([0, 1, 2, 3] * 3, 4),
        ([0, 1, 2, 3], 0),  # one node
        ([0, 0, 0], 0),  # one rank on each
        ([0, 1, 2, 0, 1, 2], 0),  # no power of two
        ([0, 1, 0], 0),  # unequal nodes
        ([0, 1, 0, 1, 2, 3], 0),
        ([0, 0, 1, 1], 0),  # srun --distribution=cyclic
        ([0], 0),
    ],
)
def test_only_equal_nodes_of_a_power_of_two_have_groups(local_ranks, size):
    assert ranks_per_node(local_ranks) == size
