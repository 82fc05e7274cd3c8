import pytest

from lockstep.config import BatchConfig
from lockstep.errors import ConfigError
from lockstep.plan import micro_sizes, window_for_reduction, window_length


def test_sizes_that_do_not_divide_are_refused_with_some_that_do():
    with pytest.raises(ConfigError, match=r"batch\.global_size = 96") as refusal:
        window_length(BatchConfig(global_size=96, micro_size=32), world_size=2, exact=False)
    message = str(refusal.value)
    assert "64 or 128" in message
    assert "batch.micro_size 24" in message
    for micro, size in ((32, 64), (32, 128), (24, 96)):
        window_length(BatchConfig(global_size=size, micro_size=micro), world_size=2, exact=False)


def test_exact_reduction_needs_a_power_of_two_of_micro_batches_per_rank():
    batch = BatchConfig(global_size=96, micro_size=16)
    assert window_length(batch, world_size=2, exact=False) == 3
    assert window_for_reduction(batch, "fast", world_size=2) == 3
    with pytest.raises(ConfigError, match=r"reduction fast would work"):
        window_for_reduction(batch, "exact", world_size=2)
    remedy = r"batch\.global_size 64 or 128, .* or reduction fast would work"
    with pytest.raises(ConfigError, match=rf"times a power of two .*; {remedy}"):
        window_length(batch, world_size=2, exact=True)
    assert window_length(batch, world_size=1, exact=True) == 6  # one rank holds the whole tree


@pytest.mark.parametrize(
    ("global_size", "reduction", "world_size", "sizes"),
    [
        (256, "exact", 1, [32, 16, 8, 4, 2, 1]),
        (256, "exact", 8, [32, 16, 8, 4, 2, 1]),
        (256, "exact", 16, [16, 8, 4, 2, 1]),
        (96, "exact", 3, [8, 4, 2, 1]),
        (96, "fast", 2, [8, 4, 2, 1]),
        (100, "fast", 5, [4, 2, 1]),
        (8, "exact", 1, [1]),
    ],
)
def test_auto_chooses_among_powers_of_two_that_leave_eight_slots(global_size, reduction, world_size, sizes):
    batch = BatchConfig(global_size=global_size, micro_size="auto")
    assert micro_sizes(batch, reduction, world_size) == sizes
    assert all(global_size // size >= 8 for size in sizes)
    window = window_for_reduction(batch, reduction, world_size)
    assert window * world_size * sizes[0] == global_size


def test_auto_is_refused_where_no_size_divides():
    for global_size, world_size in ((7, 1), (100, 2)):
        with pytest.raises(ConfigError, match=r"batch.micro_size = 'auto': finds no power of two"):
            window_for_reduction(BatchConfig(global_size=global_size, micro_size="auto"), "exact", world_size)
