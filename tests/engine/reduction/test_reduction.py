import pytest
import torch

from lockstep.config import BatchConfig
from lockstep.engine.reduction.tree_sum import TreeSum, sum_of_rows
from lockstep.errors import ConfigError
from lockstep.plan import window_length


def leaves(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(50, generator=generator) * 10 ** (index % 7) for index in range(count)]


def tree_sum(values):
    tree = TreeSum()
    for value in values:
        tree.add([value.clone()])
    return tree.total()[0]


@pytest.mark.parametrize("num_slots", [1, 2, 6, 8, 12, 24, 64, 96])
def test_blocks_of_any_size_give_the_same_bits_as_the_whole(num_slots):
    values = leaves(num_slots)
    whole = tree_sum(values)
    for world in range(1, num_slots + 1):
        block, rest = divmod(num_slots, world)
        if rest or block & (block - 1):
            continue
        blocks = [tree_sum(values[rank * block : (rank + 1) * block]) for rank in range(world)]
        assert torch.equal(tree_sum(blocks), whole), f"{num_slots} slots on {world} ranks"


def test_the_tree_has_the_documented_shape():
    a, b, c, d, e, f = leaves(6)
    assert torch.equal(tree_sum([a, b, c, d, e, f]), ((a + b) + (c + d)) + (e + f))
    assert torch.equal(tree_sum([a, b, c]), (a + b) + c)


def test_a_changed_bit_or_another_order_changes_the_sum():
    values = leaves(8)
    whole = tree_sum(values)
    changed = [value.clone() for value in values]
    changed[5].view(torch.int32)[7] ^= 1 << 20
    assert not torch.equal(tree_sum(changed), whole)
    assert not torch.equal(tree_sum(values[1:] + values[:1]), whole)
    # A block whose size is not a power of two is not a subtree, which is why it is refused below.
    assert not torch.equal(
        tree_sum([tree_sum(values[:3]), tree_sum(values[3:6]), tree_sum(values[6:])]), whole
    )


def test_memory_grows_with_the_logarithm_of_the_window():
    tree, most = TreeSum(), 0
    for count in range(1, 257):
        tree.add([torch.zeros(1)])
        most = max(most, len(tree._stack))
        assert len(tree._stack) == count.bit_count()
    assert most == 8
    tree.total()
    assert tree._stack == []


@pytest.mark.parametrize(("global_size", "world_size"), [(192, 2), (192, 6), (96, 8), (256, 3)])
def test_a_block_that_is_not_a_subtree_is_refused_with_sizes_that_work(global_size, world_size):
    batch = BatchConfig(global_size=global_size, micro_size=32)
    windows = global_size / 32 / world_size
    if windows in (1, 2, 4):
        assert window_length(batch, world_size, exact=True) == windows
        return
    with pytest.raises(ConfigError, match=r"batch\.global_size = .* power of two") as refusal:
        window_length(batch, world_size, exact=True)
    words = str(refusal.value).split("batch.global_size ")[-1].replace(",", " ").split()
    suggested = [int(word) for word in words[:3] if word.isdigit()]
    assert suggested
    for size in suggested:
        window_length(BatchConfig(global_size=size, micro_size=32), world_size, exact=True)


def test_one_rank_may_have_any_window():
    assert window_length(BatchConfig(global_size=192, micro_size=32), 1, exact=True) == 6


def test_rows_are_added_in_the_same_tree():
    for count in range(1, 130):
        values = leaves(count)
        assert torch.equal(sum_of_rows(torch.stack(values)), tree_sum(values)), count
